import { expect, test } from "vitest";
import { convertBytes } from "../../../src/data/convert/convert-bytes.ts";
import { cases } from "./foreign-cases.ts";

async function read(xlsx: Buffer): Promise<unknown> {
  const all: Buffer[] = [];
  for await (const chunk of convertBytes(xlsx, "xlsx")) all.push(chunk);
  return JSON.parse(Buffer.concat(all).toString());
}

test.each(cases.filter(({ refused }) => refused === undefined))("$name is read correctly", async ({ file, json }) => {
  expect(await read(file())).toEqual(json);
});

test.each(cases.filter(({ refused }) => refused !== undefined))("$name is refused", async ({ file, refused }) => {
  await expect(read(file())).rejects.toThrow(refused);
});

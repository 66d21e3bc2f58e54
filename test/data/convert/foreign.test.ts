import { expect, test } from "vitest";
import { make } from "../../../src/data/convert/make.ts";
import { cases } from "./foreign-cases.ts";

async function read(xlsx: Buffer): Promise<unknown> {
  const all: Buffer[] = [];
  for await (const chunk of make(xlsx, "xlsx")) all.push(chunk);
  return JSON.parse(Buffer.concat(all).toString());
}

test.each(cases.filter(({ refused }) => refused === undefined))("$name is read right", async ({ file, json }) => {
  expect(await read(file())).toEqual(json);
});

test.each(cases.filter(({ refused }) => refused !== undefined))("$name is refused", async ({ file, refused }) => {
  await expect(read(file())).rejects.toThrow(refused);
});

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ConversionKind, convertBytes } from "../../../src/data/convert/convert-bytes.ts";

const run = promisify(execFile);
let folder: string;

const names = ["openpyxl", "openpyxl-1904", "openpyxl-iso", "xlsxwriter", "xlsxwriter-1904", "xlsxwriter-zip64"];

const ownJson = [
  {
    yes: true,
    no: false,
    "R&amp;D": "R&amp;D &lt; &gt; &quot; &apos; & <b>",
    number: 0.1,
    large: 1e20,
    digits: "0150",
    formula: "=1+1",
    escape: "_x000D_\r\n\u0000",
    spaces: " x ",
    empty: [null, {}, [], "", true],
    list: [{ yes: true }, { yes: false }],
  },
];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tollgate-programs-"));
  await run("/usr/bin/python3", [join(import.meta.dirname, "write-workbooks.py"), folder]);
  await writeFile(join(folder, "own.xlsx"), await convert(Buffer.from(JSON.stringify(ownJson)), "json"));
  await mkdir(join(folder, "saved"));
  await run("soffice", [
    `-env:UserInstallation=file://${folder}/profile`,
    "--headless",
    "--convert-to",
    "xlsx",
    "--outdir",
    join(folder, "saved"),
    ...[...names, "own"].map((name) => join(folder, `${name}.xlsx`)),
  ]);
}, 180_000);

afterAll(() => rm(folder, { recursive: true }));

async function convert(bytes: Buffer, from: ConversionKind): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of convertBytes(bytes, from)) all.push(chunk);
  return Buffer.concat(all);
}

const read = async (file: string): Promise<unknown> =>
  JSON.parse((await convert(await readFile(join(folder, file)), "xlsx")).toString());

const row = {
  text: "R&D <b> 東京 😀",
  number: 0.1,
  flag: true,
  day: "2024-02-21",
  moment: "2024-02-21T09:30:00",
  hour: "12:00:00",
  span: "PT36H",
};
const openpyxl = { History: [row], Hidden: [{ merged: "once", other: false }], "#hidden": ["Hidden"] };
const xlsxwriter = {
  Orders: [row],
  More: [{ sum: 3, rich: "plain bold", link: "a link", merged: 7, km: 12.5 }],
  "#hidden": ["More"],
};

test.each(names)("%s.xlsx with a table, a chart, a chart sheet, comments and a hidden sheet", async (name) => {
  expect(await read(`${name}.xlsx`)).toEqual(name.startsWith("openpyxl") ? openpyxl : xlsxwriter);
});

test.each(names)("%s.xlsx, saved again by LibreOffice", async (name) => {
  // LibreOffice has no chart sheets: it saves one as an ordinary sheet.
  expect(await read(`saved/${name}.xlsx`)).toEqual({
    ...(name.startsWith("openpyxl") ? openpyxl : xlsxwriter),
    Chart: [],
  });
});

test("a workbook made from JSON gives the same JSON after LibreOffice has saved it", async () => {
  expect(await read("saved/own.xlsx")).toEqual(ownJson);
});

test.each([
  ["not-calculated", "the cell A2 of the sheet S is a formula whose result is not in the file"],
  ["error", "the cell A2 of the sheet S is an error: #N/A"],
])("%s.xlsx is refused", async (name, reason) => {
  await expect(read(`${name}.xlsx`)).rejects.toThrow(reason);
});

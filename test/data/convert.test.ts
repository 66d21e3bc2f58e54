import ExcelJs from "exceljs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { convert } from "../../src/data/convert.ts";
import { xlsxType } from "../../src/xlsx/workbook.ts";
import { noLibreOffice, sheetsOf } from "../support/libreoffice.ts";

async function run(bytes: Uint8Array, contentType: string, to: "json" | "xlsx"): Promise<Buffer> {
  async function* read() {
    yield Buffer.from(bytes);
  }
  const stored = { content_type: contentType, filename: "data", bytes: bytes.length, read };
  const chunks: Uint8Array[] = [];
  for await (const chunk of (await convert(stored, to)).chunks) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const toXlsx = (json: unknown) => run(Buffer.from(JSON.stringify(json)), "application/json", "xlsx");
const toJson = async (xlsx: Buffer) => JSON.parse((await run(xlsx, xlsxType, "json")).toString());

const plan = {
  name: "Monday",
  depot: { city: "Riga", point: [56.9, 24.1] },
  orders: [
    {
      id: 1,
      urgent: true,
      address: { city: "Oslo", zip: "0150" },
      items: [
        { sku: "a", count: 2 },
        { sku: "b", count: 1 },
      ],
    },
    { id: 2, urgent: false, address: { city: "Bergen" }, items: [] },
    { id: 3, note: null, items: [{ sku: "a", count: 7, tags: [{ name: "cold" }] }] },
  ],
};

test("objects become columns, arrays of objects sheets whose rows name the row that they belong to", async () => {
  const workbook = new ExcelJs.Workbook();
  await workbook.xlsx.load((await toXlsx(plan)) as never);
  const sheets = workbook.worksheets.map((sheet) => [
    sheet.name,
    sheet
      .getSheetValues()
      .slice(1)
      .map((row) => (row as unknown[]).slice(1)),
  ]);
  expect(sheets).toEqual([
    [
      "data",
      [
        ["#", "name", "depot.city", "depot.point"],
        [1, "Monday", "Riga", "json:[56.9,24.1]"],
      ],
    ],
    [
      "orders",
      [
        ["# orders", "#parent", "id", "urgent", "address.city", "address.zip", "items", "note"],
        [1, 1, 1, true, "Oslo", "0150"],
        [2, 1, 2, false, "Bergen", undefined, "json:[]"],
        [3, 1, 3, undefined, undefined, undefined, undefined, "json:null"],
      ],
    ],
    [
      "orders.items",
      [
        ["# orders[].items", "#parent", "sku", "count"],
        [1, 1, "a", 2],
        [2, 1, "b", 1],
        [3, 3, "a", 7],
      ],
    ],
    [
      "orders.items.tags",
      [
        ["# orders[].items[].tags", "#parent", "name"],
        [1, 3, "cold"],
      ],
    ],
  ]);
});

test.each<[string, unknown]>([
  ["a plan", plan],
  ["a list", [{ a: 1 }, { b: [{ c: [{ d: null }] }] }, {}, 7, "text", null, [1, { e: 2 }], []]],
  ["an empty list", []],
  ["an empty object", {}],
  ["a text", "text"],
  ["a number", 0.1],
  ["nothing", null],
  ["a long list of numbers", { matrix: Array.from({ length: 500 }, (_none, index) => index / 7) }],
  [
    "texts that look like something else",
    { a: "=1+1", b: "json:null", c: "@x", d: "1", e: " x ", f: "", g: "_x000D_\r\n\u0000", h: "true" },
  ],
  [
    "keys that look like something else",
    { "": 1, "#": 2, "a.b": { "c[].d": [{ "#parent": 3, "\\": 4, _x0041_: 5, "\n": 6 }] } },
  ],
  ["what objects inherit", JSON.parse('{"__proto__": {"a": 1}, "constructor": [{"toString": 2}]}')],
])("%s comes back as it was", async (_what, json) => {
  expect(JSON.stringify(await toJson(await toXlsx(json)))).toBe(JSON.stringify(json));
});

test("whatever it is, it comes back", { timeout: 120_000 }, async () => {
  const json = fc.jsonValue({ maxDepth: 4 }).filter((value) => JSON.stringify(value).length < 20_000);
  await fc.assert(
    fc.asyncProperty(json, async (value) => {
      expect(await toJson(await toXlsx(value))).toEqual(JSON.parse(JSON.stringify(value)));
    }),
    { numRuns: 150 },
  );
});

test("somebody else's workbook is its sheets, and their rows by the first one", async () => {
  const workbook = new ExcelJs.Workbook();
  const sheet = workbook.addWorksheet("Orders");
  sheet.addRows([
    ["id", "day", "sum"],
    [1, new Date("2026-11-24"), { formula: "A2*2", result: 2 }],
    [2, null, "x"],
  ]);
  expect(await toJson(Buffer.from(await workbook.xlsx.writeBuffer()))).toEqual({
    Orders: [
      { id: 1, day: "2026-11-24T00:00:00.000Z", sum: 2 },
      { id: 2, sum: "x" },
    ],
  });
});

test.each<[string, string, string, "json" | "xlsx", string]>([
  ["an image", "image/png", "png", "json", "image/png is neither JSON nor XLSX"],
  ["what says that it is JSON", "application/json", "{", "xlsx", "it is no JSON in UTF-8"],
  ["what says that it is a workbook", xlsxType, "PK", "json", "it is no workbook"],
  [
    "too long a text",
    "application/json",
    JSON.stringify({ a: { b: "x".repeat(40_000) } }),
    "xlsx",
    "a.b is longer than the 32767 letters that a cell takes",
  ],
  ["too large a number", "application/json", "[1e999]", "xlsx", "has a number that is too large"],
  [
    "too deep a nest",
    "application/json",
    `${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`,
    "xlsx",
    "it is nested too deeply",
  ],
  ["too much", "application/json", `"${"x".repeat(5_000_000)}"`, "xlsx", "5000002 bytes are more than 4194304"],
])("%s is refused with the reason", async (_what, type, text, to, reason) => {
  await expect(run(Buffer.from(text), type, to)).rejects.toThrow(
    `data_flow_convert: the data cannot be converted: ${reason}`.replace(/: has/, ": #value has"),
  );
});

test.skipIf(noLibreOffice !== "")(`no text is run as a formula ${noLibreOffice}`, { timeout: 60_000 }, async () => {
  const texts = ["=1+1", "+1+1", "-1+1", "@SUM(1)", '=HYPERLINK("http://example.com")'];
  const sheets = await sheetsOf(await toXlsx(texts.map((text) => ({ text }))));
  expect(sheets["data"]?.slice(1).map(([, text]) => text?.replaceAll(/^"|"$/g, "").replaceAll('""', '"'))).toEqual(
    texts,
  );
});

import ExcelJs from "exceljs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type ConversionKind, make } from "../../../src/data/convert/make.ts";
import { archiveOf, rawWorkbook, withDecoy } from "../../support/archive.ts";

async function run(bytes: Buffer, from: ConversionKind): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of make(bytes, from)) all.push(chunk);
  return Buffer.concat(all);
}

const toXlsx = (json: unknown) => run(Buffer.from(JSON.stringify(json)), "json");
const toJson = async (xlsx: Buffer) => JSON.parse((await run(xlsx, "xlsx")).toString());

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
        ["# {}", "name", "depot.city", "depot.point"],
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
  ["names that Excel keeps to itself", { History: [{ a: 1 }], history: [{ b: [{ "{}": [{ c: 1 }] }] }] }],
  ["a name of letters with two code units, longer than a sheet's", { [`a${"𝒳".repeat(20)}`]: [{ a: 1 }] }],
  ["a key that looks like the root", { "{}": [{ a: 1 }] }],
  ["a large number that is none other when it is read", [1e20, 9_007_199_254_740_991]],
  ["what objects inherit", JSON.parse('{"__proto__": {"a": 1}, "constructor": [{"toString": 2}]}')],
])("%s comes back as it was", async (_what, json) => {
  expect(JSON.stringify(await toJson(await toXlsx(json)))).toBe(JSON.stringify(json));
});

/** Texts that XML, Excel, this format or JavaScript could change. */
const trickyText = fc
  .array(
    fc.oneof(
      fc.constantFrom("&amp;", "&lt;", "&", "<", ">", "'", '"', "_x000D_", "_x005F_", "_x", "__proto__", "constructor"),
      fc.constantFrom(
        "json:",
        "#",
        "# {}",
        "# []",
        "[]",
        "{}",
        ".",
        "\\",
        "\\u0041",
        "\\0",
        " ",
        "\t",
        "\r",
        "\n",
        "\u0000",
        "\u001f",
      ),
      fc.constantFrom(
        "\ud800",
        "\udc00",
        "\ufffe",
        "\uffff",
        "\u0085",
        "\u2028",
        "\ufeff",
        "\u{1d4b3}",
        "=1+1",
        "true",
        "1e5",
        "History",
      ),
      fc.string({ unit: "binary", maxLength: 3 }),
    ),
    { maxLength: 4 },
  )
  .map((parts) => parts.join(""));
const trickyNumber = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.constantFrom(-0, 5e-324, 1.7976931348623157e308, 1e21, 1e-7),
);
const { json: trickyJson } = fc.letrec<{ json: unknown }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    fc.oneof(trickyText, trickyNumber, fc.boolean(), fc.constant(null)),
    fc.array(tie("json"), { maxLength: 4 }),
    fc
      .array(fc.tuple(trickyText, tie("json")), { maxLength: 4 })
      .map((fields) => fields.reduce<object>((so, [key, value]) => withField(so, key, value), {})),
  ),
}));

function withField(object: object, key: string, value: unknown): object {
  return Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

/** JSON.stringify, but for -0. */
function exactJson(value: unknown): string {
  if (Object.is(value, -0)) return "-0";
  if (Array.isArray(value)) return `[${value.map((one) => exactJson(one)).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, one]) => `${JSON.stringify(key)}:${exactJson(one)}`)
    .join(",")}}`;
}

/** Fields without an order: that of rows of several columns is theirs. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((one) => sorted(one));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).toSorted(([left], [right]) => (left < right ? -1 : 1));
  return entries.reduce<object>((so, [key, one]) => withField(so, key, sorted(one)), {});
}

test("JSON comes back from a workbook as it was", { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(trickyJson, async (value) => {
      const back = (await run(await run(Buffer.from(exactJson(value)), "json"), "xlsx")).toString();
      expect(exactJson(sorted(JSON.parse(back)))).toBe(exactJson(sorted(JSON.parse(exactJson(value)))));
    }),
    { numRuns: Number(process.env["RUNS"] ?? 150) },
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
      { id: 1, day: "2026-11-24", sum: 2 },
      { id: 2, sum: "x" },
    ],
  });
});

/** A workbook of somebody else's, or of ours that somebody has changed. */
async function change(xlsx: Buffer | undefined, by: (workbook: ExcelJs.Workbook) => void): Promise<Buffer> {
  const workbook = new ExcelJs.Workbook();
  if (xlsx !== undefined) await workbook.xlsx.load(xlsx as never);
  by(workbook);
  return Buffer.from(await workbook.xlsx.writeBuffer());
}

const foreign = (...rows: unknown[][]) =>
  change(undefined, (workbook) => void workbook.addWorksheet("Orders").addRows(rows));

test("a column without a name and without values is no column", async () => {
  const xlsx = await foreign(["a", null, "c"], [1, null, 3], [4, "", 6]);
  expect(await toJson(xlsx)).toEqual({
    Orders: [
      { a: 1, c: 3 },
      { a: 4, c: 6 },
    ],
  });
});

test("a column # does not make a sheet one of ours", async () => {
  const xlsx = await foreign(["#", "city"], [1, "Oslo"], [1, "Riga"]);
  expect(await toJson(xlsx)).toEqual({
    Orders: [
      { "#": 1, city: "Oslo" },
      { "#": 1, city: "Riga" },
    ],
  });
});

test.each<[string, () => Promise<Buffer>, string]>([
  ["an error", () => foreign(["a"], [{ error: "#N/A" }]), "the cell A2 of the sheet Orders is an error: #N/A"],
  [
    "a formula that gives an error",
    () => foreign(["a"], [{ formula: "1/0", result: { error: "#DIV/0!" } }]),
    "the cell A2 of the sheet Orders is an error: #DIV/0!",
  ],
  [
    "a formula of which nobody has kept what it gives",
    () => foreign(["a", "b"], [1, { formula: "A2" }]),
    "the cell B2 of the sheet Orders is a formula whose result is not in the file",
  ],
  [
    "a value under no name",
    () => foreign(["a", null, "c"], [], [1, null, 3], [4, 5, 6]),
    "the cell B4 of the sheet Orders has no name above it: row 1 names the columns, and each that has values needs one",
  ],
  [
    "a value beside the names",
    () => foreign([], ["a"], [1, 0]),
    "the cell B3 of the sheet Orders has no name above it: row 2 names the columns, and each that has values needs one",
  ],
  [
    "a value beside the columns of a sheet of ours",
    async () => change(await toXlsx([{ a: 1 }]), ({ worksheets }) => (worksheets[0]!.getCell("C2").value = "seen")),
    "the cell C2 of the sheet data has no name above it: row 1 names the columns, and each that has values needs one",
  ],
  ["two columns of one name", () => foreign(["a", "b", "a"], [1, 2, 3]), "the sheet Orders has two columns a"],
  [
    "two columns of one name in a sheet of ours",
    async () => change(await toXlsx([{ a: 1, b: 2 }]), ({ worksheets }) => (worksheets[0]!.getCell("C1").value = "a")),
    "the sheet data has two columns a",
  ],
  [
    "two rows of one number",
    async () =>
      change(await toXlsx([{ a: 1 }, { a: 2 }]), ({ worksheets }) => (worksheets[0]!.getCell("A3").value = 1)),
    "row 3 of the sheet data has the number of another one: 1",
  ],
  [
    "a row without a number",
    async () => change(await toXlsx([{ a: 1 }]), ({ worksheets }) => worksheets[0]!.addRow([null, 2])),
    "row 3 of the sheet data has no number",
  ],
  [
    "a row that no sheet has",
    async () => rawWorkbook({ rows: '<row r="2000000000"><c r="A2000000000"><v>1</v></c></row>' }),
    "the sheet Sheet1 has more than 1048576 rows",
  ],
  [
    "another directory than it shows",
    async () => withDecoy(rawWorkbook({})),
    "it is no workbook: it is no valid ZIP archive",
  ],
  [
    "two parts of one name",
    async () => archiveOf({ "xl/workbook.xml": "<workbook/>", "XL/Workbook.xml": "<workbook/>" }),
    "it has two parts /xl/workbook.xml",
  ],
  [
    "a part that is damaged",
    async () => damage(rawWorkbook({})),
    "the part /xl/worksheets/sheet1.xml is damaged: its checksum does not match",
  ],
  [
    "elements in elements without end",
    async () => rawWorkbook({ rows: "<row>".repeat(300) }),
    "the part /xl/worksheets/sheet1.xml is nested too deeply",
  ],
  [
    "one long text in many cells",
    async () => rawWorkbook({ strings: `<si><t>${"x".repeat(400_000)}</t></si>`, rows: shared(1000) }),
    "it has more than 67108864 letters",
  ],
  [
    "one long name of many cells",
    async () => rawWorkbook({ strings: `<si><t>${"x".repeat(400_000)}</t></si>`, rows: shared(1) + numbers(1000) }),
    "it has more than 67108864 letters",
  ],
])("a workbook with %s is refused with the reason", { timeout: 60_000 }, async (_what, make, reason) => {
  await expect(run(await make(), "xlsx")).rejects.toThrow(reason);
});

const rowsOf = (from: number, to: number, cell: (at: string) => string) =>
  Array.from({ length: to - from + 1 }, (_none, i) => `<row r="${from + i}">${cell(`r="A${from + i}"`)}</row>`).join(
    "",
  );
const shared = (to: number) => rowsOf(1, to, (at) => `<c ${at} t="s"><v>0</v></c>`);
const numbers = (to: number) => rowsOf(2, to, (at) => `<c ${at}><v>1</v></c>`);

test.each([
  ["names", { names: '<definedNames><definedName name="all">Sheet1!$A$1:$Z$1048576</definedName></definedNames>' }],
  ["formats of columns", { cols: '<cols><col min="1" max="2000000000" width="9"/></cols>' }],
])("%s are no data, however far they reach", async (_what, parts) => {
  expect(await toJson(rawWorkbook(parts))).toEqual({ Sheet1: [{ a: 1 }] });
});

/** The directory of the archive has another checksum of the sheet than the sheet. */
function damage(xlsx: Buffer): Buffer {
  const at = xlsx.indexOf("xl/worksheets/sheet1.xml", xlsx.indexOf("PK\u0001\u0002"));
  xlsx.writeUInt32LE(9, at - 46 + 16);
  return xlsx;
}

test("what is merged is there once, however far it reaches", async () => {
  const xlsx = await change(undefined, (workbook) => {
    workbook.addWorksheet("Orders").addRows([
      ["a", "b"],
      [1, 2],
    ]);
    workbook.worksheets[0]!.mergeCells("A2:A4");
  });
  expect(await toJson(xlsx)).toEqual({ Orders: [{ a: 1, b: 2 }] });
});

test("texts are not taken for numbers, however long they are", async () => {
  const text = `${String.raw`\n`.repeat(300)}12345678901234567890`.repeat(40);
  const json = { a: text.slice(0, 30_000), b: "\\".repeat(32_000) };
  expect(await toJson(await toXlsx(json))).toEqual(json);
});

test.each<[string, ConversionKind, string, string]>([
  [
    "a number that would be another one",
    "json",
    '{"1234567890123456789012":"1234567890123456789012","a":-12345678901234567890}',
    "a number cannot be kept exactly: -12345678901234567890",
  ],
  [
    "a row for each column",
    "json",
    JSON.stringify(Array.from({ length: 4000 }, (_none, index) => ({ [`k${index}`]: 1 }))),
    "it has more than 1000000 cells",
  ],
  ["what says that it is JSON", "json", "{", "it is no JSON in UTF-8"],
  ["what says that it is a workbook", "xlsx", "PK", "it is no workbook"],
  [
    "too long a text",
    "json",
    JSON.stringify({ a: { b: "x".repeat(40_000) } }),
    "a.b is longer than the 32767 letters that a cell takes",
  ],
  ["too large a number", "json", "[1e999]", "a number cannot be kept exactly: 1e999"],
  ["too small a number", "json", "[1e-999]", "a number cannot be kept exactly: 1e-999"],
  [
    "too long a fraction",
    "json",
    "[0.12345678901234567890]",
    "a number cannot be kept exactly: 0.12345678901234567890",
  ],
  ["a key twice", "json", '{"a":1,"b":{"a":1},"a":2}', 'an object has the key "a" twice'],
  [
    "a key twice, once with an escape",
    "json",
    String.raw`[{"a":1,"\u0061":2}]`,
    'an object has the key "\\u0061" twice',
  ],
  ["an empty key twice", "json", '[{"":[{"":1}, {"":2}],"":2}]', 'an object has the key "" twice'],
  ["a key __proto__ twice", "json", '{"__proto__":1,"__proto__":1}', 'an object has the key "__proto__" twice'],
  ["too deep a nest", "json", `${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`, "it is nested too deeply"],
  [
    "too long a path of columns",
    "json",
    JSON.stringify({ ["a".repeat(20_000)]: { ["b".repeat(20_000)]: 1 } }),
    "the name of a column is longer than the 32767 letters that a cell takes: aaa",
  ],
  [
    "too long a path of sheets",
    "json",
    JSON.stringify({ ["a".repeat(20_000)]: [{ ["b".repeat(20_000)]: [{}] }] }),
    "the name of a column is longer than the 32767 letters that a cell takes: bbb",
  ],
  [
    "names that come to more than it",
    "json",
    JSON.stringify({
      ["a".repeat(16_000)]: Object.fromEntries(Array.from({ length: 4200 }, (_none, key) => [key, 1])),
    }),
    "it has more than 67108864 letters",
  ],
])("%s is refused with the reason", async (_what, from, text, reason) => {
  await expect(run(Buffer.from(text), from)).rejects.toThrow(reason);
});

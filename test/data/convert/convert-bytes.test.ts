import ExcelJs from "exceljs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type ConversionKind, convertBytes } from "../../../src/data/convert/convert-bytes.ts";
import { archiveOf, rawWorkbook, withDecoy } from "../../support/archive.ts";
import { runs } from "../../support/runs.ts";

async function run(bytes: Buffer, from: ConversionKind): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of convertBytes(bytes, from)) all.push(chunk);
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

test("objects become columns; arrays of objects become sheets whose rows name their parent row", async () => {
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
  ["null", null],
  ["a long list of numbers", { matrix: Array.from({ length: 500 }, (_none, index) => index / 7) }],
  [
    "texts that look like something else",
    { a: "=1+1", b: "json:null", c: "@x", d: "1", e: " x ", f: "", g: "_x000D_\r\n\u0000", h: "true" },
  ],
  [
    "keys that look like something else",
    { "": 1, "#": 2, "a.b": { "c[].d": [{ "#parent": 3, "\\": 4, _x0041_: 5, "\n": 6 }] } },
  ],
  [
    "texts and keys that are written as entities",
    { a: "R&amp;D &lt; &gt; &quot; &apos;", "a&lt;b": 1, "R&amp;D": [{ "&#38;": "&#x26;" }] },
  ],
  ["names that Excel reserves", { History: [{ a: 1 }], history: [{ b: [{ "{}": [{ c: 1 }] }] }] }],
  ["a name of surrogate pairs that is too long for a sheet", { [`a${"𝒳".repeat(20)}`]: [{ a: 1 }] }],
  ["a key that looks like the root", { "{}": [{ a: 1 }] }],
  ["a large number that a double holds exactly", [1e20, 9_007_199_254_740_991]],
  ["keys that objects inherit", JSON.parse('{"__proto__": {"a": 1}, "constructor": [{"toString": 2}]}')],
])("%s survives a round trip through a workbook", async (_name, json) => {
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
/** Its shortest text is 819345095920506.2. */
const tieRoundedDown = 819345095920506.25;
const trickyNumber = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.constantFrom(-0, 5e-324, 1.7976931348623157e308, 1e21, 1e-7, tieRoundedDown),
);
const { json: trickyJson } = fc.letrec<{ json: unknown }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    fc.oneof(trickyText, trickyNumber, fc.boolean(), fc.constant(null)),
    fc.array(tie("json"), { maxLength: 4 }),
    fc
      .array(fc.tuple(trickyText, tie("json")), { maxLength: 4 })
      .map((fields) => fields.reduce<object>((object, [key, value]) => withField(object, key, value), {})),
  ),
}));

function withField(object: object, key: string, value: unknown): object {
  return Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

/** JSON.stringify that keeps -0. */
function exactJson(value: unknown): string {
  if (Object.is(value, -0)) return "-0";
  if (Array.isArray(value)) return `[${value.map((item) => exactJson(item)).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, field]) => `${JSON.stringify(key)}:${exactJson(field)}`)
    .join(",")}}`;
}

/** Sorts the fields of all objects: the rows of one sheet share one order of columns. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => sorted(item));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).toSorted(([left], [right]) => (left < right ? -1 : 1));
  return entries.reduce<object>((object, [key, field]) => withField(object, key, sorted(field)), {});
}

test("keeps a number whose shortest text rounds a tie down", async () => {
  expect(await toJson(await toXlsx([{ number: tieRoundedDown }]))).toEqual([{ number: tieRoundedDown }]);
});

test("random JSON survives a round trip through a workbook", { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(trickyJson, async (value) => {
      const back = (await run(await run(Buffer.from(exactJson(value)), "json"), "xlsx")).toString();
      expect(exactJson(sorted(JSON.parse(back)))).toBe(exactJson(sorted(JSON.parse(exactJson(value)))));
    }),
    { numRuns: runs(60) },
  );
});

test("converts each sheet of a foreign workbook to a list, with fields named by the first row", async () => {
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

/** Changes a workbook of this service, or makes one as another program would. */
async function change(xlsx: Buffer | undefined, by: (workbook: ExcelJs.Workbook) => void): Promise<Buffer> {
  const workbook = new ExcelJs.Workbook();
  if (xlsx !== undefined) await workbook.xlsx.load(xlsx as never);
  by(workbook);
  return Buffer.from(await workbook.xlsx.writeBuffer());
}

const foreign = (...rows: unknown[][]) =>
  change(undefined, (workbook) => void workbook.addWorksheet("Orders").addRows(rows));

test("omits a column without a name and without values", async () => {
  const xlsx = await foreign(["a", null, "c"], [1, null, 3], [4, "", 6]);
  expect(await toJson(xlsx)).toEqual({
    Orders: [
      { a: 1, c: 3 },
      { a: 4, c: 6 },
    ],
  });
});

test("a column named # does not mark a workbook made from JSON", async () => {
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
    "a formula without a stored result",
    () => foreign(["a", "b"], [1, { formula: "A2" }]),
    "the cell B2 of the sheet Orders is a formula whose result is not in the file",
  ],
  [
    "a value in a column without a name",
    () => foreign(["a", null, "c"], [], [1, null, 3], [4, 5, 6]),
    "the cell B4 of the sheet Orders is in a column without a name: row 1 must name every column that has values",
  ],
  [
    "a value beside the named columns",
    () => foreign([], ["a"], [1, 0]),
    "the cell B3 of the sheet Orders is in a column without a name: row 2 must name every column that has values",
  ],
  [
    "a value beside the columns of a sheet made from JSON",
    async () => change(await toXlsx([{ a: 1 }]), ({ worksheets }) => (worksheets[0]!.getCell("C2").value = "seen")),
    "the cell C2 of the sheet data is in a column without a name: row 1 must name every column that has values",
  ],
  [
    "two columns with the same name",
    () => foreign(["a", "b", "a"], [1, 2, 3]),
    "the sheet Orders has two columns named a",
  ],
  [
    "two columns with the same name in a sheet made from JSON",
    async () => change(await toXlsx([{ a: 1, b: 2 }]), ({ worksheets }) => (worksheets[0]!.getCell("C1").value = "a")),
    "the sheet data has two columns named a",
  ],
  [
    "two rows with the same number",
    async () =>
      change(await toXlsx([{ a: 1 }, { a: 2 }]), ({ worksheets }) => (worksheets[0]!.getCell("A3").value = 1)),
    "row 3 of the sheet data repeats the number 1",
  ],
  [
    "a row without a number",
    async () => change(await toXlsx([{ a: 1 }]), ({ worksheets }) => worksheets[0]!.addRow([null, 2])),
    "row 3 of the sheet data must have a number in the first column",
  ],
  [
    "a row number beyond the limit of a sheet",
    async () => rawWorkbook({ rows: '<row r="2000000000"><c r="A2000000000"><v>1</v></c></row>' }),
    "the sheet Sheet1 has more than 1048576 rows",
  ],
  [
    "a second ZIP directory that hides the first",
    async () => withDecoy(rawWorkbook({})),
    "it is not a workbook: it is not a valid ZIP archive",
  ],
  [
    "two parts with the same name",
    async () => archiveOf({ "xl/workbook.xml": "<workbook/>", "XL/Workbook.xml": "<workbook/>" }),
    "it has two parts named /xl/workbook.xml",
  ],
  [
    "a damaged part",
    async () => damage(rawWorkbook({})),
    "the part /xl/worksheets/sheet1.xml is damaged: its checksum does not match",
  ],
  [
    "too many nested elements",
    async () => rawWorkbook({ rows: "<row>".repeat(300) }),
    "the part /xl/worksheets/sheet1.xml is nested too deeply",
  ],
  [
    "one long text in many cells",
    async () => rawWorkbook({ strings: `<si><t>${"x".repeat(400_000)}</t></si>`, rows: shared(1000) }),
    "it has more than 67108864 characters",
  ],
  [
    "one long column name above many cells",
    async () => rawWorkbook({ strings: `<si><t>${"x".repeat(400_000)}</t></si>`, rows: shared(1) + numbers(1000) }),
    "it has more than 67108864 characters",
  ],
])("a workbook with %s is refused with the reason", { timeout: 60_000 }, async (_name, makeWorkbook, reason) => {
  await expect(run(await makeWorkbook(), "xlsx")).rejects.toThrow(reason);
});

const rowsOf = (from: number, to: number, cell: (at: string) => string) =>
  Array.from({ length: to - from + 1 }, (_none, i) => `<row r="${from + i}">${cell(`r="A${from + i}"`)}</row>`).join(
    "",
  );
const shared = (to: number) => rowsOf(1, to, (at) => `<c ${at} t="s"><v>0</v></c>`);
const numbers = (to: number) => rowsOf(2, to, (at) => `<c ${at}><v>1</v></c>`);

test.each([
  ["names", { names: '<definedNames><definedName name="all">Sheet1!$A$1:$Z$1048576</definedName></definedNames>' }],
  ["column formats", { cols: '<cols><col min="1" max="2000000000" width="9"/></cols>' }],
])("%s that cover a whole sheet do not count as data", async (_name, parts) => {
  expect(await toJson(rawWorkbook(parts))).toEqual({ Sheet1: [{ a: 1 }] });
});

/** Sets a wrong checksum of the sheet in the directory of the archive. */
function damage(xlsx: Buffer): Buffer {
  const at = xlsx.indexOf("xl/worksheets/sheet1.xml", xlsx.indexOf("PK\u0001\u0002"));
  xlsx.writeUInt32LE(9, at - 46 + 16);
  return xlsx;
}

test("returns the value of a merged cell once", async () => {
  const xlsx = await change(undefined, (workbook) => {
    workbook.addWorksheet("Orders").addRows([
      ["a", "b"],
      [1, 2],
    ]);
    workbook.worksheets[0]!.mergeCells("A2:A4");
  });
  expect(await toJson(xlsx)).toEqual({ Orders: [{ a: 1, b: 2 }] });
});

test("keeps long texts of digits and escapes as texts", async () => {
  const text = `${String.raw`\n`.repeat(300)}12345678901234567890`.repeat(40);
  const json = { a: text.slice(0, 30_000), b: "\\".repeat(32_000) };
  expect(await toJson(await toXlsx(json))).toEqual(json);
});

test.each<[string, ConversionKind, string, string]>([
  [
    "a number that a double cannot hold",
    "json",
    '{"1234567890123456789012":"1234567890123456789012","a":-12345678901234567890}',
    "a number cannot be kept exactly: -12345678901234567890",
  ],
  [
    "a new column in every row",
    "json",
    JSON.stringify(Array.from({ length: 4000 }, (_none, index) => ({ [`k${index}`]: 1 }))),
    "it has more than 1000000 cells",
  ],
  ["invalid JSON", "json", "{", "it must be JSON in UTF-8"],
  ["an invalid workbook", "xlsx", "PK", "it is not a workbook"],
  [
    "a text that is too long",
    "json",
    JSON.stringify({ a: { b: "x".repeat(40_000) } }),
    "a.b is longer than the 32767 characters that a cell holds",
  ],
  ["a number that is too large", "json", "[1e999]", "a number cannot be kept exactly: 1e999"],
  ["a number that is too small", "json", "[1e-999]", "a number cannot be kept exactly: 1e-999"],
  [
    "a fraction with too many digits",
    "json",
    "[0.12345678901234567890]",
    "a number cannot be kept exactly: 0.12345678901234567890",
  ],
  ["a duplicate key", "json", '{"a":1,"b":{"a":1},"a":2}', 'an object has the key "a" twice'],
  [
    "a duplicate key, once with an escape",
    "json",
    String.raw`[{"a":1,"\u0061":2}]`,
    'an object has the key "\\u0061" twice',
  ],
  ["a duplicate empty key", "json", '[{"":[{"":1}, {"":2}],"":2}]', 'an object has the key "" twice'],
  ["a duplicate key __proto__", "json", '{"__proto__":1,"__proto__":1}', 'an object has the key "__proto__" twice'],
  [
    "JSON that is nested too deeply",
    "json",
    `${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`,
    "it is nested too deeply",
  ],
  [
    "a column path that is too long",
    "json",
    JSON.stringify({ ["a".repeat(20_000)]: { ["b".repeat(20_000)]: 1 } }),
    "the name of a column is longer than the 32767 characters that a cell holds: aaa",
  ],
  [
    "a sheet path that is too long",
    "json",
    JSON.stringify({ ["a".repeat(20_000)]: [{ ["b".repeat(20_000)]: [{}] }] }),
    "the name of a column is longer than the 32767 characters that a cell holds: bbb",
  ],
  [
    "column names with too many characters in total",
    "json",
    JSON.stringify({
      ["a".repeat(16_000)]: Object.fromEntries(Array.from({ length: 4200 }, (_none, key) => [key, 1])),
    }),
    "it has more than 67108864 characters",
  ],
])("%s is refused with the reason", async (_name, from, text, reason) => {
  await expect(run(Buffer.from(text), from)).rejects.toThrow(reason);
});

import { archiveOf } from "../../support/archive.ts";
import {
  changeParts,
  mainNamespace,
  officeNamespace,
  relationship,
  relationships,
  type SpreadsheetOptions,
  spreadsheet,
  spreadsheetParts,
  xmlStart,
} from "../../support/spreadsheet.ts";

/** A workbook of another program and the expected result: the JSON, or a part of the reason for the refusal. */
export interface Case {
  readonly name: string;
  readonly file: () => Buffer;
  readonly json?: unknown;
  readonly refused?: string;
}

const sheet = (value: unknown) => ({ S: [{ a: value }] });

/** One cell A2 below the header `a`. */
const cell = (name: string, options: SpreadsheetOptions | string, value: unknown): Case => ({
  name,
  file: () => spreadsheet(typeof options === "string" ? { cells: options } : options),
  json: sheet(value),
});

const refused = (name: string, options: SpreadsheetOptions | string, reason: string): Case => ({
  name,
  file: () => spreadsheet(typeof options === "string" ? { cells: options } : options),
  refused: reason,
});

const number = (code: string, serial: number | string, value: unknown, properties = ""): Case =>
  cell(
    `${serial} in the format ${code}${properties}`,
    { formats: [code], cells: `<c r="A2" s="1"><v>${serial}</v></c>`, properties },
    value,
  );

const builtIn = (id: number, serial: number, value: unknown): Case =>
  cell(
    `${serial} in the built-in format ${id}`,
    { styles: `<xf numFmtId="0"/><xf numFmtId="${id}"/>`, cells: `<c r="A2" s="1"><v>${serial}</v></c>` },
    value,
  );

const shared = (name: string, strings: string, value: unknown): Case =>
  cell(name, { strings, cells: '<c r="A2" t="s"><v>0</v></c>' }, value);

const A2 = "the cell A2 of the sheet S";

const values: readonly Case[] = [
  cell("a formula that gives 0", '<c r="A2"><f>1-1</f><v>0</v></c>', 0),
  cell("a formula that gives false", '<c r="A2" t="b"><f>1=2</f><v>0</v></c>', false),
  cell("a formula that gives an empty text", '<c r="A2" t="str"><f>""</f><v></v></c>', ""),
  cell("a formula that gives an empty text, without a value", '<c r="A2" t="str"><f>""</f></c>', ""),
  cell("a formula that gives a text", '<c r="A2" t="str"><f>"x"</f><v>x &amp;amp; y</v></c>', "x &amp; y"),
  cell("a shared formula", '<c r="A2"><f t="shared" ref="A2:A3" si="0">B2</f><v>7</v></c>', 7),
  cell("the second cell of a shared formula", '<c r="A2"><f t="shared" si="0"/><v>8</v></c>', 8),
  cell("an array formula", '<c r="A2"><f t="array" ref="A2">SUM(1,2)</f><v>3</v></c>', 3),
  refused(
    "a formula without a result",
    '<c r="A2"><f>B2</f></c>',
    `${A2} is a formula whose result is not in the file`,
  ),
  refused("a formula with an empty result", '<c r="A2"><f>B2</f><v/></c>', `${A2} is a formula whose result`),
  refused(
    "the placeholder 0 of a formula that is to be calculated",
    { cells: '<c r="A2"><f>B2</f><v>0</v></c>', calculation: '<calcPr calcId="124519" fullCalcOnLoad="1"/>' },
    `${A2} is a formula whose result is not in the file`,
  ),
  cell(
    "another result of a formula that is to be calculated",
    { cells: '<c r="A2"><f>B2</f><v>5</v></c>', calculation: '<calcPr calcId="124519" fullCalcOnLoad="1"/>' },
    5,
  ),
  refused("an error", '<c r="A2" t="e"><v>#N/A</v></c>', `${A2} is an error: #N/A`),
  refused(
    "a formula that gives an error",
    '<c r="A2" t="e"><f>1/0</f><v>#DIV/0!</v></c>',
    `${A2} is an error: #DIV/0!`,
  ),
  cell("a boolean as LibreOffice writes it", '<c r="A2" t="n"><f aca="false">TRUE()</f><v>1</v></c>', true),
  cell("false as LibreOffice writes it", '<c r="A2"><f>FALSE()</f><v>0</v></c>', false),
  cell("a boolean 1", '<c r="A2" t="b"><v>1</v></c>', true),
  cell("a boolean true", '<c r="A2" t="b"><v>true</v></c>', true),
  cell("a boolean false", '<c r="A2" t="b"><v>false</v></c>', false),
  cell("a boolean 0", '<c r="A2" t="b"><v>0</v></c>', false),
  refused("a boolean 2", '<c r="A2" t="b"><v>2</v></c>', `${A2} must be true or false: 2`),
  refused("an unknown type", '<c r="A2" t="z"><v>2</v></c>', `${A2} has an unknown type: z`),
  refused("a type that objects inherit", '<c r="A2" t="toString"><v>2</v></c>', `${A2} has an unknown type: toString`),
  refused("an invalid number", '<c r="A2"><v>1,5</v></c>', `${A2} must be a number: 1,5`),
  refused("a hexadecimal number", '<c r="A2"><v>0x10</v></c>', `${A2} has a number`),
  cell("a number with spaces around it", '<c r="A2"><v> 1.5\n</v></c>', 1.5),
  cell("a number with a sign and an exponent", '<c r="A2"><v>+1.5E+3</v></c>', 1500),
  cell("17 digits of a number", '<c r="A2"><v>0.10000000000000001</v></c>', 0.1),
  cell("17 digits with an exponent", '<c r="A2"><v>1.2345678901234567E+19</v></c>', 1.2345678901234567e19),
  cell("the smallest number", '<c r="A2"><v>4.9406564584124654E-324</v></c>', 5e-324),
  cell("the largest number", '<c r="A2"><v>1.7976931348623157E+308</v></c>', Number.MAX_VALUE),
  cell("a number with zeros at its end", '<c r="A2"><v>100000000000000000000</v></c>', 1e20),
  refused(
    "a long number",
    '<c r="A2"><v>12345678901234567890</v></c>',
    `${A2} has a number that cannot be kept exactly`,
  ),
  refused(
    "the first integer that no double is",
    '<c r="A2"><v>9007199254740993</v></c>',
    `${A2} has a number that cannot`,
  ),
  refused("a long fraction", '<c r="A2"><v>0.12345678901234567890</v></c>', `${A2} has a number that cannot`),
  refused("a number that is too large", '<c r="A2"><v>1e400</v></c>', `${A2} has a number that cannot`),
  refused("a number that is too small", '<c r="A2"><v>1e-400</v></c>', `${A2} has a number that cannot`),
  refused(
    "a style that does not exist",
    '<c r="A2" s="9"><v>1</v></c>',
    `${A2} has a style that is not in the file: 9`,
  ),
];

const texts: readonly Case[] = [
  shared("an empty shared text", "<si/>", ""),
  shared("an empty shared text with an element", "<si><t/></si>", ""),
  shared("CDATA", "<si><t><![CDATA[a<b]]></t></si>", "a<b"),
  shared("CDATA beside text", "<si><t>x<![CDATA[ & ]]>&amp;<!-- c -->y</t></si>", "x & &y"),
  shared(
    "rich text",
    "<si><r><rPr><b/></rPr><t>bold</t></r><r><t xml:space='preserve'> and plain</t></r></si>",
    "bold and plain",
  ),
  shared(
    "a phonetic text",
    '<si><t>東京</t><rPh sb="0" eb="2"><t>トウキョウ</t></rPh><phoneticPr fontId="1"/></si>',
    "東京",
  ),
  shared("entities", "<si><t>&amp;amp; &lt;b&gt; &#233;&#x1F600;</t></si>", "&amp; <b> é😀"),
  shared("an escaped carriage return", "<si><t>a_x000D_\nb</t></si>", "a\r\nb"),
  shared("an escaped escape", "<si><t>_x005F_x000D_</t></si>", "_x000D_"),
  shared("an escaped letter in small digits", "<si><t>_x00e9_ _xD83D__xDE00_</t></si>", "é 😀"),
  shared("letters that only look like an escape", "<si><t>_x00_ _xZZZZ_ x000D_</t></si>", "_x00_ _xZZZZ_ x000D_"),
  shared("spaces", '<si><t xml:space="preserve"> a  b </t></si>', " a  b "),
  cell("an inline text", '<c r="A2" t="inlineStr"><is><t>x</t></is></c>', "x"),
  cell("an empty inline text", '<c r="A2" t="inlineStr"><is><t></t></is></c>', ""),
  cell("inline rich text", '<c r="A2" t="inlineStr"><is><r><t>a</t></r><r><t>b</t></r></is></c>', "ab"),
  cell("an inline text with CDATA", '<c r="A2" t="inlineStr"><is><t><![CDATA[1<2]]></t></is></c>', "1<2"),
  cell(
    "an inline text with its reading",
    '<c r="A2" t="inlineStr"><is><t>東京</t><rPh sb="0" eb="2"><t>トウキョウ</t></rPh></is></c>',
    "東京",
  ),
  cell("an inline escape", '<c r="A2" t="inlineStr"><is><t>a_x000D_b</t></is></c>', "a\rb"),
  cell("an escape in the result of a formula", '<c r="A2" t="str"><f>B2</f><v>a_x000D_b</v></c>', "a\rb"),
  cell("a text that is a number", '<c r="A2" t="str"><v>0150</v></c>', "0150"),
  refused(
    "a shared text that is not there",
    '<c r="A2" t="s"><v>3</v></c>',
    `${A2} refers to a text that is not in the file: 3`,
  ),
  refused(
    "a shared text of no number",
    '<c r="A2" t="s"><v>-1</v></c>',
    `${A2} refers to a text that is not in the file: -1`,
  ),
];

const formats: readonly Case[] = [
  number(String.raw`0\m`, 1500, 1500),
  number(String.raw`0.0\ \k\m`, 12.5, 12.5),
  number(String.raw`0.0\h`, 7.5, 7.5),
  number("0_s", 3, 3),
  number(String.raw`_-* #,##0.00\ _D_M_-`, 99.5, 99.5),
  number("Standard", 45_343, 45_343),
  number("General", 45_343, 45_343),
  number('General" days"', 45_343, 45_343),
  number("Estándar", 45_343, 45_343),
  number('0" days"', 5, 5),
  number("#,##0.00 [$€-407];[Red]-#,##0.00 [$USD]", 5.5, 5.5),
  number("0.00E+00", 1500, 1500),
  number("##0.0E-0", 1500, 1500),
  number("[Red]0;[Magenta]-0", 5, 5),
  number("[Green][<100]0;[Yellow]0.0", 5, 5),
  number("*d0", 5, 5),
  number("# ?/?", 1.5, 1.5),
  number("0 kr", 5, 5),
  number("@", 45_343, 45_343),
  number(";;;", 45_343, 45_343),
  number("0%", 0.5, 0.5),
  number("yyyy-mm-dd", 45_343, "2024-02-21"),
  number("dd.mm.yyyy", 45_343, "2024-02-21"),
  number("[$-409]d\\-mmm\\-yy;@", 45_343, "2024-02-21"),
  number("[$-F800]dddd\\,\\ mmmm\\ dd\\,\\ yyyy", 45_343, "2024-02-21"),
  number('yyyy"年"m"月"d"日"', 45_343, "2024-02-21"),
  number('[$-411]ggge"年"m"月"d"日"', 45_343, "2024-02-21"),
  number("mmm\\ yy", 45_343, "2024-02-21"),
  number("YYYY-MM-DD", 45_343, "2024-02-21"),
  number('d "of" mmmm', 45_343, "2024-02-21"),
  number("m", 45_343, "2024-02-21"),
  number("yyyy-mm-dd", 45_343.5, "2024-02-21T12:00:00"),
  number("yyyy-mm-dd hh:mm", 45_343, "2024-02-21T00:00:00"),
  number("yyyy-mm-dd hh:mm:ss", 45_343.395_833_333_336, "2024-02-21T09:30:00"),
  number("yyyy\\-mm\\-dd\\Thh:mm:ss.000", 45_343.395_839_120_37, "2024-02-21T09:30:00.500"),
  number("yyyy-mm-ddThh:mm:ssZ", 45_343.5, "2024-02-21T12:00:00"),
  number("m/d/yy h:mm AM/PM", 45_343.75, "2024-02-21T18:00:00"),
  number("h:mm", 0.5, "12:00:00"),
  number("[$-F400]h:mm:ss\\ AM/PM", 0.5, "12:00:00"),
  number("h:mm a/p", 0.75, "18:00:00"),
  number("mm:ss", 0.020_833_333_333_333_332, "00:30:00"),
  number("mm:ss.0;@", 0.000_017_361_111_111_111_11, "00:00:01.500"),
  number("h:mm", 0, "00:00:00"),
  number("h:mm", 45_343.5, "2024-02-21T12:00:00"),
  number("[h]:mm", 1.5, "PT36H"),
  number("[hh]:mm:ss", 0.5, "PT12H"),
  number("[h]:mm:ss", 1.000_011_574_074_074, "PT24H1S"),
  number("[mm]:ss", 0.062_5, "PT1H30M"),
  number("[s].00", 0.000_017_361_111_111_111_11, "PT1.5S"),
  number("[h]:mm;@", 0, "PT0S"),
  number("[h]:mm;-[h]:mm", -0.25, "-PT6H"),
  number("[H]\\h mm\\m", 1.5, "PT36H"),
  // Sections.
  number("yyyy-mm-dd;0", 45_343, "2024-02-21"),
  number("0;yyyy-mm-dd", 45_343, 45_343),
  number("yyyy-mm-dd;-0;0", 0, 0),
  number('0;-0;"none";d', 5, 5),
  number("[<1]h:mm;yyyy-mm-dd", 0.5, "12:00:00"),
  number("[<1]h:mm;yyyy-mm-dd", 45_343, "2024-02-21"),
  number("[>=100]0;[<0]0;h:mm", 0.5, "12:00:00"),
  // The calendar.
  number("yyyy-mm-dd", 1, "1900-01-01"),
  number("yyyy-mm-dd", 59, "1900-02-28"),
  number("yyyy-mm-dd", 60, 60),
  number("yyyy-mm-dd", 61, "1900-03-01"),
  number("yyyy-mm-dd", 0, 0),
  number("yyyy-mm-dd", -5, -5),
  number("yyyy-mm-dd", 2_958_465, "9999-12-31"),
  number("yyyy-mm-dd", 2_958_466, 2_958_466),
  number("dd.mm.yyyy", "1e9", 1e9),
  number("dd.mm.yyyy", "1e300", 1e300),
  ...["1", "true"].flatMap((is) => [
    number("yyyy-mm-dd", 43_881, "2024-02-21", `<workbookPr date1904="${is}"/>`),
    number("yyyy-mm-dd", 0, "1904-01-01", `<workbookPr date1904="${is}"/>`),
    number("yyyy-mm-dd", 59, "1904-02-29", `<workbookPr date1904="${is}"/>`),
    number("h:mm", 0.5, "12:00:00", `<workbookPr date1904="${is}"/>`),
  ]),
  number("yyyy-mm-dd", 45_343, "2024-02-21", '<workbookPr date1904="false"/>'),
  number("yyyy-mm-dd", 59, "1900-02-27", '<workbookPr dateCompatibility="0"/>'),
  ...[14, 15, 16, 17, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 50, 51, 52, 53, 54, 55, 56, 57, 58].map((id) =>
    builtIn(id, 45_343, "2024-02-21"),
  ),
  ...[18, 19, 20, 21, 32, 33, 45, 47].map((id) => builtIn(id, 0.5, "12:00:00")),
  builtIn(22, 45_343.5, "2024-02-21T12:00:00"),
  builtIn(46, 1.5, "PT36H"),
  ...[0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 37, 38, 39, 40, 48, 49, 59].map((id) => builtIn(id, 45_343, 45_343)),
  cell(
    "a style that has its format from the named style",
    {
      // The builder writes `cellXfs` around it.
      styles:
        '</cellXfs><cellStyleXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellStyleXfs><cellXfs><xf xfId="0"/><xf xfId="1"/>',
      cells: '<c r="A2" s="1"><v>45343</v></c>',
    },
    "2024-02-21",
  ),
];

const iso = (text: string, value: unknown, format = "yyyy-mm-dd"): Case =>
  cell(
    `the ISO date ${text} in ${format}`,
    { formats: [format], cells: `<c r="A2" s="1" t="d"><v>${text}</v></c>` },
    value,
  );

const isoValues: readonly Case[] = [
  iso("2024-02-21T09:30:00Z", "2024-02-21T09:30:00Z"),
  iso("2024-02-21T09:30:00", "2024-02-21T09:30:00"),
  iso("2024-02-21T09:30:00.250", "2024-02-21T09:30:00.250"),
  iso("2024-02-21", "2024-02-21"),
  iso("2024-02-21T00:00:00", "2024-02-21"),
  iso("2024-02-21T00:00:00", "2024-02-21T00:00:00", "yyyy-mm-dd hh:mm"),
  iso("09:30:00", "09:30:00", "h:mm"),
  iso("T09:30:00", "09:30:00", "h:mm"),
  iso("PT36H", "PT36H", "[h]:mm"),
  ...["2024-02-30", "2023-02-29T00:00:00", "2024-02-21T24:00:00", "45343", "21.2.2024", "T", "P", "2024-02-21T"].map(
    (text) =>
      refused(
        `the ISO date ${text}`,
        { formats: ["yyyy-mm-dd"], cells: `<c r="A2" s="1" t="d"><v>${text}</v></c>` },
        `${A2} must be a date or time in ISO 8601: ${text}`,
      ),
  ),
];

const text = '<c r="A2" t="s"><v>0</v></c>';
const plain = () => spreadsheetParts({ strings: "<si><t>x</t></si>", cells: text });
const sheetPart = "xl/worksheets/sheet1.xml";

const parts = (name: string, make: () => Record<string, string | Buffer>, json: unknown = sheet("x")): Case => ({
  name,
  file: () => archiveOf(make()),
  json,
});

/** A workbook whose sheet has this name in the archive and this target in the relationship. */
const located = (path: string, target: string, from = plain): Case =>
  parts(`the sheet ${path} at the target ${target}`, () =>
    changeParts(from(), { rename: { [sheetPart]: path }, replace: [['"worksheets/sheet1.xml"', `"${target}"`]] }),
  );

const encoded = (name: string, encode: (part: string) => Buffer): Case =>
  parts(name, () =>
    Object.fromEntries(
      Object.entries(plain()).map(([path, part]) => [
        path,
        encode(part.toString().replace('encoding="UTF-8"', 'encoding="UTF-16"')),
      ]),
    ),
  );

const utf16 = (part: string) => Buffer.from(part, "utf16le");

const packages: readonly Case[] = [
  located("xl/worksheets/sheet.xml", "worksheets/sheet.xml"),
  located("xl/worksheets/Sheet1.xml", "worksheets/Sheet1.xml"),
  located("xl/worksheets/data1.xml", "worksheets/data1.xml"),
  located("xl/worksheets/sheet1.xml", "./worksheets/sheet1.xml"),
  located("xl/worksheets/sheet1.xml", "/xl/worksheets/sheet1.xml"),
  located("xl/worksheets/sheet1.xml", "../xl/worksheets/sheet1.xml"),
  located("xl/worksheets/sheet1.xml", "worksheets/SHEET1.XML"),
  located("xl/worksheets/my sheet.xml", "worksheets/my%20sheet.xml"),
  located("xl/worksheets/my%20sheet.xml", "worksheets/my%20sheet.xml"),
  located("xl/worksheets/лист.xml", "worksheets/лист.xml"),
  located("content/s.xml", "/content/s.xml"),
  parts("backslashes in the names of the archive", () =>
    Object.fromEntries(Object.entries(plain()).map(([path, part]) => [path.replaceAll("/", "\\"), part])),
  ),
  parts("a slash before the names of the archive", () =>
    Object.fromEntries(Object.entries(plain()).map(([path, part]) => [`/${path}`, part])),
  ),
  parts("SharedStrings.xml", () =>
    changeParts(plain(), { rename: { "xl/sharedStrings.xml": "xl/SharedStrings.xml" } }),
  ),
  parts("shared strings under another name", () =>
    changeParts(plain(), {
      rename: { "xl/sharedStrings.xml": "xl/texts.xml" },
      replace: [['"sharedStrings.xml"', '"texts.xml"']],
    }),
  ),
  parts("the workbook under another name", () =>
    changeParts(plain(), {
      rename: { "xl/workbook.xml": "book/main.xml", "xl/_rels/workbook.xml.rels": "book/_rels/main.xml.rels" },
      replace: [
        ['"xl/workbook.xml"', '"/book/main.xml"'],
        ['"worksheets/sheet1.xml"', '"../xl/worksheets/sheet1.xml"'],
        ['"sharedStrings.xml"', '"/xl/sharedStrings.xml"'],
        ['"styles.xml"', '"/xl/styles.xml"'],
      ],
    }),
  ),
  parts(
    "styles under another name",
    () =>
      changeParts(spreadsheetParts({ formats: ["yyyy-mm-dd"], cells: '<c r="A2" s="1"><v>45343</v></c>' }), {
        rename: { "xl/styles.xml": "xl/looks.xml" },
        replace: [['"styles.xml"', '"looks.xml"']],
      }),
    sheet("2024-02-21"),
  ),
  parts("other ids of relationships", () => changeParts(plain(), { replace: [["rId1", "sheet-one"]] })),
  parts("a prefix on every element", () =>
    changeParts(plain(), {
      replace: [
        ...["workbook", "sheets", "sheet ", "worksheet", "sheetData", "row", "c ", "v", "sst", "si", "t"].flatMap(
          (name) => [[`<${name}`, `<x:${name}`] as const, [`</${name.trim()}>`, `</x:${name.trim()}>`] as const],
        ),
        ["<x:cellXfs", "<cellXfs"],
        ["<x:styleSheet", "<styleSheet"],
        [`<x:workbook xmlns="${mainNamespace}"`, `<x:workbook xmlns:x="${mainNamespace}"`],
        [`<x:worksheet xmlns="${mainNamespace}"`, `<x:worksheet xmlns:x="${mainNamespace}"`],
        [`<x:sst xmlns="${mainNamespace}"`, `<x:sst xmlns:x="${mainNamespace}"`],
      ],
    }),
  ),
  parts("another prefix of relationships", () =>
    changeParts(plain(), {
      replace: [
        ["xmlns:r=", "xmlns:rel="],
        [' r:id="', ' rel:id="'],
      ],
    }),
  ),
  parts("the strict form", () =>
    changeParts(plain(), {
      replace: [
        [mainNamespace, "http://purl.oclc.org/ooxml/spreadsheetml/main"],
        [officeNamespace, "http://purl.oclc.org/ooxml/officeDocument/relationships"],
        ["<sheets>", "<sheets>"],
      ],
    }),
  ),
  parts("no relationships of the package", () => {
    const { "_rels/.rels": _none, ...others } = plain();
    return others;
  }),
  encoded("parts in UTF-16, little endian", (part) => Buffer.concat([Buffer.of(0xff, 0xfe), utf16(part)])),
  encoded("parts in UTF-16, big endian", (part) => Buffer.concat([Buffer.of(0xfe, 0xff), utf16(part).swap16()])),
  parts("parts in UTF-8 with a byte order mark", () =>
    Object.fromEntries(Object.entries(plain()).map(([path, part]) => [path, `\ufeff${part.toString()}`])),
  ),
  parts(
    "elements of other versions",
    () =>
      changeParts(plain(), {
        replace: [
          [
            "<worksheet ",
            '<worksheet xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" xmlns:n="urn:n" ',
          ],
          [
            "<sheetData>",
            '<sheetData><mc:AlternateContent><mc:Choice Requires="n"><row r="1"><c r="A1" t="str"><v>b</v></c></row></mc:Choice><mc:Fallback>',
          ],
          [
            "</sheetData>",
            '</mc:Fallback></mc:AlternateContent><n:row r="9"><n:c r="A9"><n:v>9</n:v></n:c></n:row></sheetData><extLst><ext><sheetData><row r="5"><c r="A5"><v>5</v></c></row></sheetData></ext></extLst>',
          ],
        ],
      }),
    sheet("x"),
  ),
  {
    name: "a sheet named History",
    file: () => spreadsheet({ cells: '<c r="A2"><v>1</v></c>', sheetName: "History" }),
    json: { History: [{ a: 1 }] },
  },
  {
    name: "a sheet name of 40 letters",
    file: () => spreadsheet({ cells: '<c r="A2"><v>1</v></c>', sheetName: "x".repeat(40) }),
    json: { ["x".repeat(40)]: [{ a: 1 }] },
  },
  {
    name: "a sheet name with entities and letters that Excel forbids",
    file: () => spreadsheet({ cells: '<c r="A2"><v>1</v></c>', sheetName: "R&D <a/b>:*?[__proto__]" }),
    json: { "R&D <a/b>:*?[__proto__]": [{ a: 1 }] },
  },
  {
    name: "a sheet named __proto__",
    file: () => spreadsheet({ cells: '<c r="A2"><v>1</v></c>', sheetName: "__proto__" }),
    json: JSON.parse('{"__proto__":[{"a":1}]}') as unknown,
  },
  {
    name: "a hidden sheet",
    file: () => spreadsheet({ cells: '<c r="A2"><v>1</v></c>', sheetState: ' state="hidden"' }),
    json: { S: [{ a: 1 }], "#hidden": ["S"] },
  },
  {
    name: "a very hidden sheet",
    file: () => spreadsheet({ cells: '<c r="A2"><v>1</v></c>', sheetState: ' state="veryHidden"' }),
    json: { S: [{ a: 1 }], "#hidden": ["S"] },
  },
  {
    name: "a visible sheet",
    file: () => spreadsheet({ cells: '<c r="A2"><v>1</v></c>', sheetState: ' state="visible"' }),
    json: sheet(1),
  },
  {
    name: "no numbers on rows and cells",
    file: () =>
      spreadsheet({
        rows: '<row><c t="str"><v>a</v></c><c t="str"><v>b</v></c></row><row/><row><c><v>1</v></c><c><v>2</v></c></row>',
      }),
    json: { S: [{ a: 1, b: 2 }] },
  },
  {
    name: "numbers on some rows and cells",
    file: () =>
      spreadsheet({
        rows:
          '<row r="3"><c r="B3" t="str"><v>a</v></c><c t="str"><v>b</v></c></row>' +
          '<row><c/><c><v>1</v></c><c r="C4"><v>2</v></c></row>',
      }),
    json: { S: [{ a: 1, b: 2 }] },
  },
  {
    name: "rows and cells out of order",
    file: () =>
      spreadsheet({
        rows:
          '<row r="3"><c r="B3"><v>2</v></c><c r="A3"><v>1</v></c></row>' +
          '<row r="1"><c r="A1" t="str"><v>a</v></c><c r="B1" t="str"><v>b</v></c></row>',
      }),
    json: { S: [{ a: 1, b: 2 }] },
  },
  refused("a cell twice", '<c r="A2"><v>1</v></c><c r="A2"><v>2</v></c>', `${A2} is in the file twice`),
  refused(
    "a cell in another row",
    '<c r="A5"><v>1</v></c>',
    "row 2 of the sheet S has a cell that belongs to another row: A5",
  ),
  refused(
    "a cell without a place",
    '<c r="2A"><v>1</v></c>',
    "row 2 of the sheet S has a cell that belongs to another row: 2A",
  ),
  refused(
    "a column beyond the limit of a sheet",
    '<c r="XFE2"><v>1</v></c>',
    "the sheet S has more than 16384 columns",
  ),
  { name: "a workbook without cells", file: () => spreadsheet({ rows: "" }), json: { S: [] } },
  {
    name: "a chart sheet beside the sheet",
    file: () =>
      archiveOf({
        ...changeParts(plain(), {
          replace: [
            ["<sheets>", '<sheets><sheet name="Chart" sheetId="2" r:id="rId9"/>'],
            [
              relationship("rId3", "styles", "styles.xml"),
              relationship("rId3", "styles", "styles.xml") +
                relationship("rId9", "chartsheet", "chartsheets/sheet1.xml"),
            ],
          ],
        }),
        "xl/chartsheets/sheet1.xml": `${xmlStart}<chartsheet xmlns="${mainNamespace}"/>`,
      }),
    json: sheet("x"),
  },
  {
    name: "a table, a drawing and comments beside the sheet, at absolute targets",
    file: () =>
      archiveOf({
        ...plain(),
        "xl/worksheets/_rels/sheet1.xml.rels": relationships(
          relationship("rId1", "table", "/xl/tables/table1.xml"),
          relationship("rId2", "drawing", "/xl/drawings/drawing1.xml"),
          relationship("comments", "comments", "/xl/comments/comment1.xml"),
        ),
        "xl/tables/table1.xml": `${xmlStart}<table xmlns="${mainNamespace}" id="1" name="T" ref="A1:A2"/>`,
        "xl/drawings/drawing1.xml": "<wsDr/>",
        "xl/comments/comment1.xml": "<comments/>",
      }),
    json: sheet("x"),
  },
];

const others: readonly Case[] = [
  { name: "a ZIP of other files", file: () => archiveOf({ "readme.txt": "hello" }), refused: "it is not a workbook" },
  { name: "an empty ZIP", file: () => archiveOf({}), refused: "it is not a workbook" },
  {
    name: "an .ods",
    file: () =>
      archiveOf({
        mimetype: "application/vnd.oasis.opendocument.spreadsheet",
        "content.xml": "<office:document-content/>",
        "META-INF/manifest.xml": "<manifest/>",
      }),
    refused: "it is not a workbook",
  },
  {
    name: "a .docx",
    file: () =>
      archiveOf({
        "_rels/.rels": relationships(relationship("rId1", "officeDocument", "word/document.xml")),
        "word/document.xml": "<w:document xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main'/>",
      }),
    refused: "it is not a workbook",
  },
  {
    name: "an .xlsb",
    file: () =>
      archiveOf({
        "_rels/.rels": relationships(relationship("rId1", "officeDocument", "xl/workbook.bin")),
        "xl/workbook.bin": Buffer.of(131, 1, 0),
      }),
    refused: "it is a binary workbook (XLSB)",
  },
  {
    name: "an .xls",
    file: () => Buffer.from("d0cf11e0a1b11ae100000000", "hex"),
    refused: "it is encrypted or in the format of Excel 97",
  },
  {
    name: "CSV",
    file: () => Buffer.from("a,b\n1,2\n"),
    refused: "it is not a workbook: it is not a valid ZIP archive",
  },
  {
    name: "a sheet without a part",
    file: () => archiveOf(changeParts(plain(), { rename: { [sheetPart]: "xl/worksheets/other.xml" } })),
    refused: "the part /xl/worksheets/sheet1.xml is missing",
  },
  {
    name: "a sheet without a relationship",
    file: () => archiveOf(changeParts(plain(), { replace: [['r:id="rId1"', 'r:id="rId7"']] })),
    refused: "the sheet S has no part in the file",
  },
  {
    name: "two sheets of one name",
    file: () =>
      archiveOf(
        changeParts(plain(), {
          replace: [
            ["</sheets>", '<sheet name="S" sheetId="2" r:id="rId8"/></sheets>'],
            [relationship("rId3", "styles", "styles.xml"), relationship("rId8", "worksheet", "worksheets/sheet2.xml")],
          ],
        }),
      ),
    refused: "it has two sheets named S",
  },
  {
    name: "missing shared strings",
    file: () => archiveOf(changeParts(plain(), { rename: { "xl/sharedStrings.xml": "xl/other.xml" } })),
    refused: "the part /xl/sharedStrings.xml is missing",
  },
  {
    name: "XML that is not well-formed",
    file: () => archiveOf(changeParts(plain(), { replace: [["</row>", "</rows>"]] })),
    refused: "the part /xl/worksheets/sheet1.xml is not well-formed XML",
  },
  {
    name: "an external entity",
    file: () =>
      archiveOf(
        changeParts(plain(), {
          replace: [
            ["<sst", '<!DOCTYPE sst [<!ENTITY e SYSTEM "file:///etc/passwd">]><sst'],
            ["<t>x</t>", "<t>&e;</t>"],
          ],
        }),
      ),
    refused: "the part /xl/sharedStrings.xml has a DTD",
  },
  {
    name: "Latin-1",
    file: () => {
      const latin1 = changeParts(plain(), { replace: [["<t>x</t>", "<t>é</t>"]] });
      return archiveOf({
        ...latin1,
        "xl/sharedStrings.xml": Buffer.from(latin1["xl/sharedStrings.xml"]!.toString(), "latin1"),
      });
    },
    refused: "the part /xl/sharedStrings.xml is neither in UTF-8 nor in UTF-16",
  },
  {
    name: "a wrong declared encoding",
    file: () => archiveOf(changeParts(plain(), { replace: [['encoding="UTF-8"', 'encoding="ISO-8859-1"']] })),
    refused: "is neither in UTF-8 nor in UTF-16",
  },
  {
    name: "entry names that leave the archive",
    file: () => archiveOf({ "../../etc/x": "x", ...plain() }),
    json: sheet("x"),
  },
  {
    name: "a target that leaves the archive",
    file: () => archiveOf(changeParts(plain(), { replace: [['"worksheets/sheet1.xml"', '"../../../../etc/passwd"']] })),
    refused: "the part /etc/passwd is missing",
  },
];

/** All cases. */
export const cases: readonly Case[] = [...values, ...texts, ...formats, ...isoValues, ...packages, ...others];

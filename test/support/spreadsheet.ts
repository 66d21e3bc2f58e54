import { archiveOf } from "./archive.ts";

export interface SpreadsheetOptions {
  /** The XML of the cells of row 2, below the header `a`. */
  readonly cells?: string;
  /** The XML of all rows, in place of the header and the cells. */
  readonly rows?: string;
  /** Codes of number formats: the first one is the style 1. */
  readonly formats?: readonly string[];
  /** The XML of `cellXfs`, in place of the formats. */
  readonly styles?: string;
  /** The XML of the shared strings, each with its `si`. */
  readonly strings?: string;
  /** The XML before and after the sheets of the workbook. */
  readonly properties?: string;
  readonly calculation?: string;
  readonly sheetName?: string;
  readonly sheetState?: string;
}

export type Parts = Record<string, string | Buffer>;

export const mainNamespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
export const officeNamespace = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
export const packageNamespace = "http://schemas.openxmlformats.org/package/2006";
const contentType = "application/vnd.openxmlformats-officedocument.spreadsheetml";
export const xmlStart = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n';

/** Returns the parts of the smallest valid workbook of one sheet. */
export function spreadsheetParts(options: SpreadsheetOptions = {}): Parts {
  const { cells = "", formats = [], strings = "", properties = "", calculation = "", sheetState = "" } = options;
  const rows = options.rows ?? `<row r="1"><c r="A1" t="str"><v>a</v></c></row><row r="2">${cells}</row>`;
  const codes = formats.map((code, index) => `<numFmt numFmtId="${164 + index}" formatCode="${escape(code)}"/>`);
  const numFmts = formats.length === 0 ? "" : `<numFmts count="${formats.length}">${codes.join("")}</numFmts>`;
  const styles =
    options.styles ?? `<xf numFmtId="0"/>${formats.map((_code, i) => `<xf numFmtId="${164 + i}"/>`).join("")}`;
  return {
    "[Content_Types].xml":
      `${xmlStart}<Types xmlns="${packageNamespace}/content-types">` +
      '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>' +
      '<Default Extension="xml" ContentType="application/xml"/>' +
      `<Override PartName="/xl/workbook.xml" ContentType="${contentType}.sheet.main+xml"/>` +
      `<Override PartName="/xl/worksheets/sheet1.xml" ContentType="${contentType}.worksheet+xml"/>` +
      `<Override PartName="/xl/sharedStrings.xml" ContentType="${contentType}.sharedStrings+xml"/>` +
      `<Override PartName="/xl/styles.xml" ContentType="${contentType}.styles+xml"/></Types>`,
    "_rels/.rels": relationships(relationship("rId1", "officeDocument", "xl/workbook.xml")),
    "xl/workbook.xml":
      `${xmlStart}<workbook xmlns="${mainNamespace}" xmlns:r="${officeNamespace}">${properties}<sheets>` +
      `<sheet name="${escape(options.sheetName ?? "S")}" sheetId="1"${sheetState} r:id="rId1"/></sheets>${calculation}</workbook>`,
    "xl/_rels/workbook.xml.rels": relationships(
      relationship("rId1", "worksheet", "worksheets/sheet1.xml"),
      relationship("rId2", "sharedStrings", "sharedStrings.xml"),
      relationship("rId3", "styles", "styles.xml"),
    ),
    "xl/worksheets/sheet1.xml": `${xmlStart}<worksheet xmlns="${mainNamespace}"><sheetData>${rows}</sheetData></worksheet>`,
    "xl/sharedStrings.xml": `${xmlStart}<sst xmlns="${mainNamespace}">${strings}</sst>`,
    "xl/styles.xml": `${xmlStart}<styleSheet xmlns="${mainNamespace}">${numFmts}<cellXfs>${styles}</cellXfs></styleSheet>`,
  };
}

export function spreadsheet(options?: SpreadsheetOptions): Buffer {
  return archiveOf(spreadsheetParts(options));
}

export function relationship(id: string, type: string, target: string): string {
  return `<Relationship Id="${id}" Type="${officeNamespace}/${type}" Target="${target}"/>`;
}

export function relationships(...all: readonly string[]): string {
  return `${xmlStart}<Relationships xmlns="${packageNamespace}/relationships">${all.join("")}</Relationships>`;
}

/** Renames some parts and replaces texts in all of them. */
export function changeParts(
  parts: Parts,
  { rename = {}, replace = [] }: { rename?: Record<string, string>; replace?: readonly (readonly [string, string])[] },
): Parts {
  const changed = Object.entries(parts).map(([path, part]) => {
    const text = replace.reduce((so, [from, to]) => so.replaceAll(from, to), part.toString());
    return [rename[path] ?? path, text] as const;
  });
  return Object.fromEntries(changed);
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

import { crc32, deflateRawSync } from "node:zlib";

const utf8Names = 0x0800;

/** Builds a minimal ZIP archive of these files. */
export function archiveOf(files: Readonly<Record<string, string | Buffer>>): Buffer {
  const contents: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [path, file] of Object.entries(files)) {
    const name = Buffer.from(path);
    const bytes = Buffer.from(file);
    const content = deflateRawSync(bytes);
    const header = Buffer.alloc(30);
    header.writeUInt32LE(0x04034b50, 0);
    header.writeUInt16LE(utf8Names, 6);
    header.writeUInt16LE(8, 8);
    header.writeUInt32LE(crc32(bytes), 14);
    header.writeUInt32LE(content.length, 18);
    header.writeUInt32LE(bytes.length, 22);
    header.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(utf8Names, 8);
    entry.writeUInt16LE(8, 10);
    entry.writeUInt32LE(crc32(bytes), 16);
    entry.writeUInt32LE(content.length, 20);
    entry.writeUInt32LE(bytes.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(at, 42);
    const whole = Buffer.concat([header, name, content]);
    at += whole.length;
    contents.push(whole);
    directory.push(entry, name);
  }
  const entries = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(contents.length, 8);
  end.writeUInt16LE(contents.length, 10);
  end.writeUInt32LE(entries.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...contents, entries, end]);
}

export interface WorkbookParts {
  readonly name?: string;
  readonly rows?: string;
  readonly cols?: string;
  readonly names?: string;
  readonly strings?: string;
  readonly styles?: string;
}

/** Builds a workbook of one sheet from raw XML, which may be invalid. */
export function rawWorkbook({
  name = "Sheet1",
  rows = plainRows,
  cols = "",
  names = "",
  strings = "",
  styles = "",
}: WorkbookParts) {
  const type = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
  return archiveOf({
    "xl/workbook.xml": `<workbook><sheets><sheet name="${name}" sheetId="1" r:id="rId1"/></sheets>${names}</workbook>`,
    "xl/_rels/workbook.xml.rels":
      `<Relationships><Relationship Id="rId1" Type="${type}/worksheet" Target="worksheets/sheet1.xml"/>` +
      `<Relationship Id="rId2" Type="${type}/sharedStrings" Target="sharedStrings.xml"/>` +
      `<Relationship Id="rId3" Type="${type}/styles" Target="styles.xml"/></Relationships>`,
    "xl/worksheets/sheet1.xml": `<worksheet>${cols}<sheetData>${rows}</sheetData></worksheet>`,
    "xl/sharedStrings.xml": `<sst>${strings}</sst>`,
    "xl/styles.xml": `<styleSheet><cellXfs>${styles}</cellXfs></styleSheet>`,
  });
}

const plainRows = '<row r="1"><c r="A1" t="str"><v>a</v></c></row><row r="2"><c r="A2"><v>1</v></c></row>';

/** Adds a ZIP64 record that points to the real directory, and a plain end record whose directory has only the first file. */
export function withDecoy(zip: Buffer): Buffer {
  const end = zip.length - 22;
  const start = zip.readUInt32LE(end + 16);
  const length = end - start;
  const decoy = zip.subarray(start, start + 46 + zip.readUInt16LE(start + 28));
  const record = Buffer.alloc(56);
  record.write("PK\u0006\u0006", 0, "latin1");
  record.writeUInt32LE(44, 4);
  record.writeUInt32LE(zip.readUInt16LE(end + 10), 24);
  record.writeUInt32LE(zip.readUInt16LE(end + 10), 32);
  record.writeUInt32LE(length + decoy.length, 40);
  record.writeUInt32LE(start, 48);
  const locator = Buffer.alloc(20);
  locator.write("PK\u0006\u0007", 0, "latin1");
  locator.writeUInt32LE(end, 8);
  locator.writeUInt32LE(1, 16);
  const last = Buffer.alloc(22);
  last.writeUInt32LE(0x06054b50, 0);
  last.writeUInt16LE(0xffff, 4);
  last.writeUInt32LE(decoy.length, 12);
  last.writeUInt32LE(end + record.length + locator.length, 16);
  return Buffer.concat([zip.subarray(0, end), record, locator, decoy, last]);
}

import type { CellValue } from "../../xlsx/cell.ts";
import { limitOf, type ReadLimits, WorkbookError } from "../../xlsx/limits.ts";
import { type ReadSheet, readWorkbook } from "../../xlsx/read-workbook.ts";
import { nameCell } from "../../xlsx/worksheet.ts";
import { isRoot, joinSheets, type SheetTable, setField } from "./join-sheets.ts";
import { maxCells, maxLetters } from "./table.ts";

const limits: ReadLimits = {
  unpackedBytes: 67_108_864,
  files: 10_000,
  cells: maxCells,
  // A cell has two, and two more for its text.
  elements: 6 * maxCells,
};

/** The field that lists the names of the hidden sheets. */
const hiddenField = "#hidden";

/**
 * The JSON that a workbook holds: the one that it was made from. A workbook of another origin is an object with a field
 * for each sheet, an array of its rows; `#hidden` lists the sheets that are hidden, if any are.
 * @throws WorkbookError, Impossible
 */
export async function readSheets(bytes: Buffer): Promise<unknown> {
  const sheets = await readWorkbook(bytes, limits);
  const countLetters = limitOf(maxLetters, "letters");
  const tables = sheets.map((sheet) => toTable(sheet, countLetters));
  if (tables.some(({ headers }) => isRoot(headers.get(1)))) return joinSheets(tables);
  const hidden = sheets.filter(({ isHidden }) => isHidden).map(({ name }) => name);
  const marks = hidden.length === 0 ? [] : [[hiddenField, hidden] as const];
  if (hidden.length > 0 && tables.some(({ name }) => name === hiddenField)) {
    throw new WorkbookError(`no sheet may have the name ${hiddenField} in a workbook with hidden sheets`);
  }
  return Object.fromEntries([...tables.map((table) => [table.name, plainRows(table)] as const), ...marks]);
}

function toTable({ name, rows }: ReadSheet, countLetters: (more: number) => void): SheetTable {
  const [headerRow, ...others] = rows;
  const headers = new Map<number, string>();
  const known = new Set<string>();
  for (const [index, column] of headerRow?.columns.entries() ?? []) {
    const header = String(headerRow?.values[index]);
    if (header === "") continue;
    if (known.has(header)) throw new WorkbookError(`the sheet ${name} has two columns ${header}`);
    known.add(header);
    headers.set(column, header);
    countLetters(2 * header.length);
  }
  for (const row of others) {
    for (const [index, column] of row.columns.entries()) {
      const value = row.values[index] ?? "";
      const header = headers.get(column);
      // A column without a name is no field: its values would be lost.
      if (header === undefined && value !== "") throw nameless(nameCell(name, row.number, column), headerRow?.number);
      countLetters(lengthOf(value) + (header?.length ?? 0));
    }
  }
  return { name, headers, rows: others };
}

function nameless(cell: string, headerRow: number | undefined): WorkbookError {
  return new WorkbookError(
    `${cell} has no name above it: row ${headerRow} names the columns, and each that has values needs one`,
  );
}

function lengthOf(value: CellValue): number {
  return typeof value === "string" ? value.length : 0;
}

function plainRows({ headers, rows }: SheetTable): Record<string, unknown>[] {
  return rows.map(({ columns, values }) => {
    const row: Record<string, unknown> = {};
    for (const [index, column] of columns.entries()) {
      const header = headers.get(column);
      if (header !== undefined) setField(row, header, values[index]);
    }
    return row;
  });
}

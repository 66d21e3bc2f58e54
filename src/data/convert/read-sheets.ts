import type { CellValue } from "../../xlsx/cell.ts";
import { limitOf, type ReadLimits, WorkbookError } from "../../xlsx/limits.ts";
import { type ReadSheet, readWorkbook } from "../../xlsx/read-workbook.ts";
import { nameCell, type ReadRow } from "../../xlsx/worksheet.ts";
import { isRoot, joinSheets, type SheetTable, setField } from "./join-sheets.ts";
import { maxCells, maxCharacters } from "./layout.ts";

const limits: ReadLimits = {
  unpackedBytes: 67_108_864,
  files: 10_000,
  cells: maxCells,
  // A cell has two elements, and its shared text two more.
  elements: 6 * maxCells,
};

/** The field that lists the names of the hidden sheets. */
const hiddenField = "#hidden";

/**
 * Reads a workbook as JSON. A workbook made from JSON gives that JSON. Any other workbook gives an object with a field
 * for each sheet, an array of its rows; `#hidden` lists the hidden sheets, if there are any.
 * @throws WorkbookError when a value cannot be read exactly; ConversionError when the layout is broken
 */
export async function readSheets(bytes: Buffer): Promise<unknown> {
  const sheets = await readWorkbook(bytes, limits);
  const countCharacters = limitOf(maxCharacters, "characters");
  const tables = sheets.map((sheet) => toTable(sheet, countCharacters));
  if (tables.some(({ headers }) => isRoot(headers.get(1)))) return joinSheets(tables);
  const hidden = sheets.filter(({ isHidden }) => isHidden).map(({ name }) => name);
  const hiddenList = hidden.length === 0 ? [] : [[hiddenField, hidden] as const];
  if (hidden.length > 0 && tables.some(({ name }) => name === hiddenField)) {
    throw new WorkbookError(`a workbook with hidden sheets must not have a sheet named ${hiddenField}`);
  }
  return Object.fromEntries([...tables.map((table) => [table.name, plainRows(table)] as const), ...hiddenList]);
}

function toTable({ name, rows }: ReadSheet, countCharacters: (more: number) => void): SheetTable {
  const [headerRow, ...dataRows] = rows;
  const headers = new Map<number, string>();
  const seen = new Set<string>();
  for (const [index, column] of headerRow?.columns.entries() ?? []) {
    const header = String(headerRow?.values[index]);
    if (header === "") continue;
    if (seen.has(header)) throw new WorkbookError(`the sheet ${name} has two columns named ${header}`);
    seen.add(header);
    headers.set(column, header);
    countCharacters(2 * header.length);
  }
  for (const row of dataRows) {
    for (const [index, column] of row.columns.entries()) {
      const value = row.values[index] ?? "";
      const header = headers.get(column);
      // Refused: the values of a column without a name would be lost.
      if (header === undefined && value !== "") throw columnWithoutName(nameCell(name, row.number, column), headerRow);
      countCharacters(lengthOf(value) + (header?.length ?? 0));
    }
  }
  return { name, headers, rows: dataRows };
}

function columnWithoutName(cell: string, headerRow: ReadRow | undefined): WorkbookError {
  return new WorkbookError(
    `${cell} is in a column without a name: row ${headerRow?.number} must name every column that has values`,
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

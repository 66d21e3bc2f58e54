import type { SaxesTagNS } from "saxes";
import { type CellContext, type CellValue, type RawCell, readCell } from "./cell.ts";
import { WorkbookError } from "./limits.ts";
import type { Package } from "./package.ts";
import { textRules } from "./shared-strings.ts";
import { maxRows } from "./workbook.ts";
import { attributeOf, type ElementRule, readXml } from "./xml.ts";

/** A row with values. Rows and columns count from 1; columns are in ascending order. */
export interface ReadRow {
  readonly number: number;
  readonly columns: number[];
  readonly values: CellValue[];
}

/** Counters over all sheets of a workbook. Each throws when it exceeds its limit. */
export interface SheetCounters {
  readonly element: (more: number) => void;
  readonly row: (more: number) => void;
  readonly cell: (more: number) => void;
}

const maxColumns = 16_384;

/**
 * Reads the rows of a worksheet that have values, in ascending order.
 * @throws WorkbookError that names the cell
 */
export async function readWorksheet(
  from: Package,
  part: string,
  { name, context, counters }: { name: string; context: CellContext; counters: SheetCounters },
): Promise<ReadRow[]> {
  const rows = new Map<number, ReadRow>();
  let rowNumber = 0;
  let column = 0;
  let isSheet = false;
  // One object is reused for all cells: there may be a million.
  const cell: Mutable<RawCell> = { type: "n", style: "0", formula: undefined, value: undefined, inline: undefined };

  const c: ElementRule = {
    open(element) {
      counters.cell(1);
      column = columnOf(element, { rowNumber, previous: column, name });
      cell.type = attributeOf(element, "t") ?? "n";
      cell.style = attributeOf(element, "s") ?? "0";
      cell.formula = undefined;
      cell.value = undefined;
      cell.inline = undefined;
    },
    close() {
      const value = readCell(cell, context, () => nameCell(name, rowNumber, column));
      if (value !== undefined) addCell(rows, { rowNumber, column, value });
    },
    children: {
      f: { close: (text) => (cell.formula = text) },
      v: { close: (text) => (cell.value = text) },
      is: {
        open: () => (cell.inline = ""),
        children: textRules((text) => (cell.inline += text)),
      },
    },
  };
  const row: ElementRule = {
    open(element) {
      counters.row(1);
      rowNumber = rowNumberOf(element, { previous: rowNumber, name });
      column = 0;
    },
    children: { c },
  };
  const worksheet: ElementRule = { open: () => (isSheet = true), children: { sheetData: { children: { row } } } };
  await readXml(from.read(part), { part, rule: { children: { worksheet } }, count: counters.element });
  if (!isSheet) throw new WorkbookError(`the part ${part} is not a worksheet`);
  return [...rows.values()]
    .toSorted((left, right) => left.number - right.number)
    .map((found) => sortCells(found, name));
}

type Mutable<Type> = { -readonly [Key in keyof Type]: Type[Key] };

function addCell(
  rows: Map<number, ReadRow>,
  { rowNumber, column, value }: { rowNumber: number; column: number; value: CellValue },
): void {
  const row = rows.get(rowNumber) ?? { number: rowNumber, columns: [], values: [] };
  if (row.columns.length === 0) rows.set(rowNumber, row);
  row.columns.push(column);
  row.values.push(value);
}

/** Sorts the cells of a damaged file. In every other file they are in order already. */
function sortCells(row: ReadRow, name: string): ReadRow {
  const { number, columns, values } = row;
  if (columns.every((column, index) => index === 0 || column > (columns[index - 1] ?? 0))) return row;
  const cells = columns
    .map((column, index) => ({ column, value: values[index] ?? "" }))
    .toSorted((left, right) => left.column - right.column);
  const duplicate = cells.find(({ column }, index) => column === cells[index - 1]?.column);
  if (duplicate !== undefined) {
    throw new WorkbookError(`${nameCell(name, number, duplicate.column)} is in the file twice`);
  }
  return { number, columns: cells.map(({ column }) => column), values: cells.map(({ value }) => value) };
}

/** Reads the number of a row. A row without a number follows the previous row. */
function rowNumberOf(element: SaxesTagNS, { previous, name }: { previous: number; name: string }): number {
  const text = attributeOf(element, "r");
  const number = text === undefined ? previous + 1 : Number(text);
  if (!Number.isInteger(number) || number < 1) {
    throw new WorkbookError(
      `the sheet ${name} has a row whose number must be a positive integer: ${text?.slice(0, 60)}`,
    );
  }
  if (number > maxRows) throw new WorkbookError(`the sheet ${name} has more than ${maxRows} rows`);
  return number;
}

function columnOf(
  element: SaxesTagNS,
  { rowNumber, previous, name }: { rowNumber: number; previous: number; name: string },
): number {
  const reference = attributeOf(element, "r");
  const [, letters = "", row] = /^([a-z]{1,4})(\d{1,8})$/i.exec(reference ?? "") ?? [];
  if (reference !== undefined && Number(row) !== rowNumber) {
    throw new WorkbookError(
      `row ${rowNumber} of the sheet ${name} has a cell that belongs to another row: ${reference.slice(0, 60)}`,
    );
  }
  const column = reference === undefined ? previous + 1 : parseColumn(letters);
  if (column > maxColumns) throw new WorkbookError(`the sheet ${name} has more than ${maxColumns} columns`);
  return column;
}

function parseColumn(letters: string): number {
  let column = 0;
  for (const letter of letters.toUpperCase()) column = column * 26 + letter.charCodeAt(0) - 64;
  return column;
}

/** Names a cell for a message: "the cell B2 of the sheet Orders". */
export function nameCell(sheet: string, row: number, column: number): string {
  return `the cell ${nameColumn(column)}${row} of the sheet ${sheet}`;
}

/** The letters of a column: 1 is A, 27 is AA. */
function nameColumn(column: number): string {
  const index = column - 1;
  const last = String.fromCharCode(65 + (index % 26));
  return index < 26 ? last : nameColumn(Math.floor(index / 26)) + last;
}

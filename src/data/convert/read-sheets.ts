import ExcelJs from "exceljs";
import { maxRows } from "../../xlsx/workbook.ts";
import {
  each,
  Impossible,
  limitOf,
  literal,
  marker,
  maxCells,
  maxLetters,
  parentColumn,
  single,
  unescapeKey,
  valueColumn,
} from "./table.ts";
import { checkUnpacked } from "./unpack.ts";

interface Sheet {
  readonly name: string;
  readonly headers: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
}

type Fields = Record<string, unknown>;

/** Not read: they are no data, and a few bytes of them reach over all the cells that there can be. */
const ignoreNodes = ["cols", "mergeCells", "dataValidations", "conditionalFormatting", "extLst"];

/**
 * The JSON that a workbook holds: the one that it was made from, or, of anybody else's, an object with an array of rows
 * for every sheet.
 * @throws Impossible
 */
export async function readSheets(bytes: Buffer): Promise<unknown> {
  const sheets = await load(bytes);
  for (const sheet of sheets) checkHeaders(sheet);
  const isOurs = sheets.some(({ headers }) => roots.has(headers[0] ?? ""));
  return isOurs ? join(sheets) : Object.fromEntries(sheets.map((sheet) => [sheet.name, plainRows(sheet)]));
}

/** What the first cell of the outermost sheet is: others have a column `#` of their own. */
const singleRoot = `${marker} ${single}`;
const roots = new Set([singleRoot, `${marker} ${each}`]);

async function load(bytes: Buffer): Promise<Sheet[]> {
  await checkUnpacked(bytes);
  const workbook = new ExcelJs.Workbook();
  // Nor are names: what sets the model makes an object of every cell that they reach over, so there is none.
  Object.defineProperty(workbook.definedNames, "model", { writable: true });
  await workbook.xlsx.load(bytes as never, { ignoreNodes });
  const countCells = limitOf(maxCells, "cells");
  const countLetters = limitOf(maxLetters, "letters");
  return workbook.worksheets.map((worksheet) => {
    // A row's number is whatever the file says.
    if (worksheet.rowCount > maxRows) throw new Impossible(`the sheet ${worksheet.name} has more than ${maxRows} rows`);
    const rows: unknown[][] = [];
    let headerRow: ExcelJs.Row | undefined;
    worksheet.eachRow((row) => {
      countCells(row.cellCount);
      const cells = Array.from({ length: row.cellCount }, (_none, index) => valueOf(row.getCell(index + 1)));
      for (const [index, cell] of cells.entries()) {
        if (cell === null) continue;
        const header = headerRow === undefined ? cell : (rows[0]?.[index] ?? null);
        if (isEmpty(header) && !isEmpty(cell)) throw nameless(row.getCell(index + 1), headerRow?.number ?? 1);
        countLetters(lengthOf(cell) + lengthOf(rows[0]?.[index]));
      }
      headerRow ??= row;
      rows.push(cells);
    });
    const [headers = [], ...others] = rows;
    return {
      name: worksheet.name,
      headers: headers.map((header) => (header === null ? "" : String(header))),
      rows: others,
    };
  });
}

function isEmpty(cell: unknown): boolean {
  return cell === null || cell === "";
}

/** A column without a name is no field: what stands in it would be lost. */
function nameless({ address, worksheet }: ExcelJs.Cell, headerRow: number): Impossible {
  return new Impossible(
    `the cell ${address} of the sheet ${worksheet.name} has no name above it: ` +
      `row ${headerRow} names the columns, and each that has values needs one`,
  );
}

function lengthOf(cell: unknown): number {
  return typeof cell === "string" ? cell.length : 0;
}

function checkHeaders({ name, headers }: Sheet): void {
  const known = new Set<string>();
  for (const header of headers) {
    if (header !== "" && known.has(header)) throw new Impossible(`the sheet ${name} has two columns ${header}`);
    known.add(header);
  }
}

/** @throws Impossible where there is something that is not the value of the cell */
function valueOf({ value, address, worksheet }: ExcelJs.Cell): unknown {
  const read = (part: ExcelJs.CellValue): unknown => {
    if (part === null || part === undefined) return null;
    if (part instanceof Date) return part.toISOString();
    if (typeof part !== "object") return part;
    if ("richText" in part) return part.richText.map(({ text }) => text).join("");
    const where = `the cell ${address} of the sheet ${worksheet.name}`;
    if ("error" in part) throw new Impossible(`${where} is an error: ${part.error}`);
    const result = "text" in part ? part.text : part.result;
    if (result === undefined) throw new Impossible(`${where} is a formula whose result is not in the file`);
    return read(result);
  };
  return read(value);
}

function plainRows({ headers, rows }: Sheet): Fields[] {
  return rows.map((cells) => {
    const row: Fields = {};
    for (const [index, header] of headers.entries())
      if (header !== "" && cells[index] !== null) set(row, header, cells[index] ?? null);
    return row;
  });
}

interface Element {
  value: unknown;
}

/** Elements by the path of their array and their number. */
type Elements = Map<string, Map<number, Element>>;

/** Puts the arrays back into the elements that they were in. A sheet's parent stands before it. */
function join(sheets: readonly Sheet[]): unknown {
  const elements: Elements = new Map();
  let root: unknown;
  for (const sheet of sheets) {
    const [first = ""] = sheet.headers;
    if (!first.startsWith(marker)) throw new Impossible(`the sheet ${sheet.name} does not begin with ${marker}`);
    const path = first === singleRoot ? "" : first.slice(marker.length).trimStart();
    const found = readElements(sheet);
    elements.set(path, found);
    const values = [...found.values()];
    if (path === "") root = values[0] === undefined ? {} : values[0].value;
    else if (path === each) root = values.map(({ value }) => value);
    else attach(sheet, path, elements);
  }
  return root;
}

function readElements({ name, headers, rows }: Sheet): Map<number, Element> {
  const found = new Map<number, Element>();
  for (const [index, cells] of rows.entries()) {
    const number = cells[0] ?? null;
    if (typeof number !== "number") throw new Impossible(`row ${index + 2} of the sheet ${name} has no number`);
    if (found.has(number)) {
      throw new Impossible(`row ${index + 2} of the sheet ${name} has the number of another one: ${number}`);
    }
    const value: Fields = {};
    const element: Element = { value };
    for (const [at, header] of headers.entries()) {
      const cell = cells[at] ?? null;
      if (at === 0 || header === parentColumn || header === "" || cell === null) continue;
      if (header === valueColumn) element.value = parseCell(cell);
      else put(value, header.split("."), parseCell(cell));
    }
    found.set(number, element);
  }
  return found;
}

/** Puts the elements of an inner array where they belong. */
function attach({ headers, rows, name }: Sheet, path: string, elements: Elements): void {
  const split = path.lastIndexOf(`${each}.`);
  const [parentPath, field] = split === -1 ? ["", path] : [path.slice(0, split), path.slice(split + each.length + 1)];
  // The outermost array has no name but that it is one.
  const parents = elements.get(parentPath === "" && split !== -1 ? each : parentPath);
  const column = headers.indexOf(parentColumn);
  const own = elements.get(path);
  for (const [index, cells] of rows.entries()) {
    const parent = parents?.get(Number(cells[column]));
    const element = own?.get(Number(cells[0]));
    if (parent === undefined || element === undefined) {
      throw new Impossible(`row ${index + 2} of the sheet ${name} belongs to no row`);
    }
    const steps = field.split(".");
    const last = steps.pop() ?? "";
    push(walk(parent.value as Fields, steps), unescapeKey(last), element);
  }
}

function push(into: Fields, key: string, element: Element): void {
  const known = Object.hasOwn(into, key) ? into[key] : undefined;
  // What an inner array is filled with later is filled in place.
  if (Array.isArray(known)) known.push(element.value);
  else set(into, key, [element.value]);
}

function put(into: Fields, steps: readonly string[], value: unknown): void {
  set(walk(into, steps.slice(0, -1)), unescapeKey(steps.at(-1) ?? ""), value);
}

function walk(into: Fields, steps: readonly string[]): Fields {
  let at = into;
  for (const step of steps) {
    const key = unescapeKey(step);
    if (!Object.hasOwn(at, key)) set(at, key, {});
    at = at[key] as Fields;
  }
  return at;
}

/** Any key is a field, `__proto__` too. */
function set(into: Fields, key: string, value: unknown): void {
  Object.defineProperty(into, key, { value, enumerable: true, writable: true, configurable: true });
}

function parseCell(cell: unknown): unknown {
  if (typeof cell !== "string" || !cell.startsWith(literal)) return cell;
  try {
    return JSON.parse(cell.slice(literal.length));
  } catch {
    throw new Impossible(`a cell that begins with ${literal} is no JSON: ${cell.slice(0, 60)}`);
  }
}

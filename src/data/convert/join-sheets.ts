import type { ReadRow } from "../../xlsx/worksheet.ts";
import { ConversionError, each, literal, marker, parentColumn, single, unescapeKey, valueColumn } from "./table.ts";

/** A sheet whose first row with values names the columns. */
export interface SheetTable {
  readonly name: string;
  /** The names of the columns, by their number. */
  readonly headers: ReadonlyMap<number, string>;
  readonly rows: readonly ReadRow[];
}

const singleRoot = `${marker} ${single}`;
const roots = new Set([singleRoot, `${marker} ${each}`]);

/** Whether the first cell of a sheet says that the workbook was made from JSON. Others have a column `#` too. */
export function isRoot(firstCell: string | undefined): boolean {
  return roots.has(firstCell ?? "");
}

type Fields = Record<string, unknown>;

interface Element {
  value: unknown;
}

/** Elements by the path of their array and their number. */
type Elements = Map<string, Map<number, Element>>;

/**
 * The JSON that the tables were made from: puts the arrays back into the elements that they were in. The table of an
 * array stands after the one of its parents.
 * @throws Impossible
 */
export function joinSheets(sheets: readonly SheetTable[]): unknown {
  const elements: Elements = new Map();
  let root: unknown;
  for (const sheet of sheets) {
    const first = sheet.headers.get(1) ?? "";
    if (!first.startsWith(marker)) throw new ConversionError(`the sheet ${sheet.name} does not begin with ${marker}`);
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

function readElements({ name, headers, rows }: SheetTable): Map<number, Element> {
  const found = new Map<number, Element>();
  for (const { number: rowNumber, columns, values } of rows) {
    const number = columns[0] === 1 ? values[0] : undefined;
    if (typeof number !== "number") throw new ConversionError(`row ${rowNumber} of the sheet ${name} has no number`);
    if (found.has(number)) {
      throw new ConversionError(`row ${rowNumber} of the sheet ${name} has the number of another one: ${number}`);
    }
    const value: Fields = {};
    const element: Element = { value };
    for (const [index, column] of columns.entries()) {
      const header = headers.get(column);
      if (column === 1 || header === undefined || header === parentColumn) continue;
      const cell = parseCell(values[index]);
      if (header === valueColumn) element.value = cell;
      else put(value, header.split("."), cell);
    }
    found.set(number, element);
  }
  return found;
}

/** Puts the elements of an inner array where they belong. */
function attach({ headers, rows, name }: SheetTable, path: string, elements: Elements): void {
  const split = path.lastIndexOf(`${each}.`);
  const [parentPath, field] = split === -1 ? ["", path] : [path.slice(0, split), path.slice(split + each.length + 1)];
  // The outermost array has no name but that it is one.
  const parents = elements.get(parentPath === "" && split !== -1 ? each : parentPath);
  const own = elements.get(path);
  for (const { number: rowNumber, columns, values } of rows) {
    const parentNumber = values[columns.findIndex((column) => headers.get(column) === parentColumn)];
    const parent = parents?.get(Number(parentNumber));
    const element = own?.get(Number(values[0]));
    if (parent === undefined || element === undefined) {
      throw new ConversionError(`row ${rowNumber} of the sheet ${name} belongs to no row`);
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
  else setField(into, key, [element.value]);
}

function put(into: Fields, steps: readonly string[], value: unknown): void {
  setField(walk(into, steps.slice(0, -1)), unescapeKey(steps.at(-1) ?? ""), value);
}

function walk(into: Fields, steps: readonly string[]): Fields {
  let at = into;
  for (const step of steps) {
    const key = unescapeKey(step);
    if (!Object.hasOwn(at, key)) setField(at, key, {});
    at = at[key] as Fields;
  }
  return at;
}

/** Sets a field of any name: an assignment to `__proto__` would set the prototype. */
export function setField(into: Fields, key: string, value: unknown): void {
  Object.defineProperty(into, key, { value, enumerable: true, writable: true, configurable: true });
}

function parseCell(cell: unknown): unknown {
  if (typeof cell !== "string" || !cell.startsWith(literal)) return cell;
  try {
    return JSON.parse(cell.slice(literal.length));
  } catch {
    throw new ConversionError(`a cell that begins with ${literal} is no JSON: ${cell.slice(0, 60)}`);
  }
}

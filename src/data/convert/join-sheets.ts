import type { ReadRow } from "../../xlsx/worksheet.ts";
import { ConversionError, each, literal, marker, parentColumn, single, unescapeKey, valueColumn } from "./layout.ts";

/** A sheet with named columns: the first row that has values holds the names. */
export interface SheetTable {
  readonly name: string;
  /** Names by column number. */
  readonly headers: ReadonlyMap<number, string>;
  readonly rows: readonly ReadRow[];
}

const singleRoot = `${marker} ${single}`;
const roots = new Set([singleRoot, `${marker} ${each}`]);

/** Returns whether the first cell marks a workbook made from JSON. Other workbooks may have a column `#` too. */
export function isRoot(firstCell: string | undefined): boolean {
  return roots.has(firstCell ?? "");
}

type Fields = Record<string, unknown>;

interface Element {
  value: unknown;
}

/** Elements by the path of their array, then by row number. */
type Elements = Map<string, Map<number, Element>>;

/**
 * Rebuilds the JSON that the sheets were made from: moves each inner array back into its parent elements. The sheet of a
 * parent must come before those of its inner arrays.
 * @throws ConversionError that names the sheet and the row
 */
export function joinSheets(sheets: readonly SheetTable[]): unknown {
  const elements: Elements = new Map();
  let root: unknown;
  for (const sheet of sheets) {
    const first = sheet.headers.get(1) ?? "";
    if (!first.startsWith(marker))
      throw new ConversionError(`the first cell of the sheet ${sheet.name} must begin with ${marker}`);
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
    if (typeof number !== "number")
      throw new ConversionError(`row ${rowNumber} of the sheet ${name} must have a number in the first column`);
    if (found.has(number)) {
      throw new ConversionError(`row ${rowNumber} of the sheet ${name} repeats the number ${number}`);
    }
    const value: Fields = {};
    const element: Element = { value };
    for (const [index, column] of columns.entries()) {
      const header = headers.get(column);
      if (column === 1 || header === undefined || header === parentColumn) continue;
      const cell = parseCell(values[index]);
      if (header === valueColumn) element.value = cell;
      else setPath(value, header.split("."), cell);
    }
    found.set(number, element);
  }
  return found;
}

/** Adds the elements of an inner array to their parent elements. */
function attach({ headers, rows, name }: SheetTable, path: string, elements: Elements): void {
  const split = path.lastIndexOf(`${each}.`);
  const [parentPath, field] = split === -1 ? ["", path] : [path.slice(0, split), path.slice(split + each.length + 1)];
  // The path of the root array is `[]`.
  const parents = elements.get(parentPath === "" && split !== -1 ? each : parentPath);
  const own = elements.get(path);
  for (const { number: rowNumber, columns, values } of rows) {
    const parentNumber = values[columns.findIndex((column) => headers.get(column) === parentColumn)];
    const parent = parents?.get(Number(parentNumber));
    const element = own?.get(Number(values[0]));
    if (parent === undefined || element === undefined) {
      throw new ConversionError(`row ${rowNumber} of the sheet ${name} has no parent row`);
    }
    const steps = field.split(".");
    const last = steps.pop() ?? "";
    push(walk(parent.value as Fields, steps), unescapeKey(last), element);
  }
}

function push(into: Fields, key: string, element: Element): void {
  const existing = Object.hasOwn(into, key) ? into[key] : undefined;
  // The value is shared, not copied: arrays inside it are attached later.
  if (Array.isArray(existing)) existing.push(element.value);
  else setField(into, key, [element.value]);
}

function setPath(into: Fields, steps: readonly string[], value: unknown): void {
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

/** Sets a field of any name. An assignment to `__proto__` would set the prototype instead. */
export function setField(into: Fields, key: string, value: unknown): void {
  Object.defineProperty(into, key, { value, enumerable: true, writable: true, configurable: true });
}

function parseCell(cell: unknown): unknown {
  if (typeof cell !== "string" || !cell.startsWith(literal)) return cell;
  try {
    return JSON.parse(cell.slice(literal.length));
  } catch {
    throw new ConversionError(`a cell that begins with ${literal} must hold valid JSON: ${cell.slice(0, 60)}`);
  }
}

import ExcelJs from "exceljs";
import { each, Impossible, literal, marker, parentColumn, unescapeKey, valueColumn } from "./table.ts";

interface Sheet {
  readonly name: string;
  readonly headers: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
}

type Fields = Record<string, unknown>;

/** What a workbook of this size has at the most, unless it is made to fill the memory. */
const maxCells = 5_000_000;

/**
 * The JSON that a workbook holds: the one that it was made from, or, of anybody else's, an object with an array of rows
 * for every sheet.
 * @throws Impossible
 */
export async function readSheets(bytes: Buffer): Promise<unknown> {
  const sheets = await load(bytes);
  const isOurs = sheets.some(({ headers }) => /^#($| )/.test(headers[0] ?? ""));
  return isOurs ? join(sheets) : Object.fromEntries(sheets.map((sheet) => [sheet.name, plainRows(sheet)]));
}

async function load(bytes: Buffer): Promise<Sheet[]> {
  const workbook = new ExcelJs.Workbook();
  await workbook.xlsx.load(bytes as never);
  let cells = 0;
  return workbook.worksheets.map((worksheet) => {
    const rows: unknown[][] = [];
    worksheet.eachRow((row) => {
      cells += row.cellCount;
      if (cells > maxCells) throw new Impossible(`it has more than ${maxCells} cells`);
      rows.push(Array.from({ length: row.cellCount }, (_none, index) => valueOf(row.getCell(index + 1).value)));
    });
    const [headers = [], ...others] = rows;
    return {
      name: worksheet.name,
      headers: headers.map((header) => (header === null ? "" : String(header))),
      rows: others,
    };
  });
}

function valueOf(value: ExcelJs.CellValue): unknown {
  if (value === null || value === undefined) return null;
  if (value instanceof Date) return value.toISOString();
  if (typeof value !== "object") return value;
  if ("richText" in value) return value.richText.map(({ text }) => text).join("");
  if ("text" in value) return value.text;
  if ("result" in value) return valueOf(value.result);
  return null;
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
    const path = first.slice(marker.length).trimStart();
    const found = readElements(sheet);
    elements.set(path, found);
    const values = [...found.values()];
    if (path === "") root = values[0] === undefined ? {} : values[0].value;
    else if (path === each) root = values.map(({ value }) => value);
    else attach(sheet, path, elements);
  }
  return root;
}

function readElements({ headers, rows }: Sheet): Map<number, Element> {
  const found = new Map<number, Element>();
  for (const [index, cells] of rows.entries()) {
    const value: Fields = {};
    const element: Element = { value };
    for (const [at, header] of headers.entries()) {
      const cell = cells[at] ?? null;
      if (at === 0 || header === parentColumn || header === "" || cell === null) continue;
      if (header === valueColumn) element.value = parseCell(cell);
      else put(value, header.split("."), parseCell(cell));
    }
    found.set(Number(cells[0] ?? index + 1), element);
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
    const element = own?.get(Number(cells[0] ?? index + 1));
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

import { limitOf } from "../../xlsx/limits.ts";
import { type Cell, type Column, maxRows, textFormat, type Workbook } from "../../xlsx/workbook.ts";
import { writeJsonText } from "./json-text.ts";
import {
  ConversionError,
  each,
  escapeKey,
  literal,
  marker,
  maxCells,
  maxCharacters,
  maxText,
  parentColumn,
  single,
  valueColumn,
} from "./layout.ts";

/** The rows of one array of the JSON. */
export interface WrittenTable {
  readonly path: string;
  /** The sheet's name. */
  readonly name: string;
  /** Column indexes by name, in the order in which the columns appear. */
  readonly columns: Map<string, number>;
  readonly rows: { readonly parent: number | undefined; readonly cells: Cell[] }[];
}

const maxColumns = 16_384;
/** Longest JSON of an array of plain values that is kept in one cell. */
const maxInlineCharacters = 120;
const maxNameCharacters = 31;
/** Excel reserves this name. */
const reservedNames = ["history"];

/**
 * Lays out JSON as tables, the table of a parent before those of its inner arrays.
 * @throws ConversionError when a table exceeds the limits of a sheet
 */
export function toSheets(json: unknown): WrittenTable[] {
  const tables = new Map<string, WrittenTable>();
  const names = new Set(reservedNames);
  // Headers and cells count as they are added: a few bytes of JSON may add a cell to every row.
  const count = limitOf(maxCells, "cells");
  const countCharacters = limitOf(maxCharacters, "characters");

  function tableOf(path: string): WrittenTable {
    const existing = tables.get(path);
    if (existing !== undefined) return existing;
    const table: WrittenTable = { path, name: nameOf(path, names), columns: new Map(), rows: [] };
    tables.set(path, table);
    countCharacters(path.length);
    count(2);
    return table;
  }

  /** Adds an element and everything inside it. */
  function addRow(table: WrittenTable, element: unknown, parent: number | undefined, within: string): void {
    const row = { parent, cells: [] as Cell[] };
    table.rows.push(row);
    if (table.rows.length >= maxRows)
      throw new ConversionError(`${table.path || "it"} has more rows than a sheet holds`);
    const number = table.rows.length;
    count(table.columns.size + 2);
    const put = (column: string, value: unknown) => {
      const index = table.columns.get(column) ?? table.columns.size;
      if (index >= maxColumns - 2)
        throw new ConversionError(`${table.path || "it"} has more columns than a sheet holds`);
      if (index === table.columns.size) {
        count(number + 1);
        countCharacters(column.length);
      }
      table.columns.set(column, index);
      row.cells[index] = toCell(value, column);
    };
    const addFields = (fields: object, prefix: string) => {
      for (const [key, value] of Object.entries(fields)) add(value, checkName(prefix + escapeKey(key), within));
    };
    const add = (value: unknown, column: string) => {
      if (isRows(value)) {
        const inner = tableOf(within + column);
        for (const item of value) addRow(inner, item, number, `${inner.path}${each}.`);
      } else if (isFields(value)) addFields(value, `${column}.`);
      else put(column, value);
    };
    if (isFields(element)) addFields(element, "");
    // The element is an array or a plain value. An empty object is a row without cells.
    else if (JSON.stringify(element) !== "{}") put(valueColumn, element);
  }

  const isArray = Array.isArray(json);
  const root = tableOf(isArray ? each : "");
  for (const element of isArray ? json : [json]) addRow(root, element, undefined, isArray ? `${each}.` : "");
  return [...tables.values()];
}

/** The path of a sheet must fit into its first cell, with the marker and the paths of its parents. */
function checkName(column: string, within: string): string {
  const { length } = `${marker} ${within}${column}`;
  if (length > maxText) {
    throw new ConversionError(
      `the name of a column is longer than the ${maxText} characters that a cell holds: ${column.slice(0, 60)}`,
    );
  }
  return column;
}

/** Writes the tables as sheets, in order, and ends the workbook. */
export async function writeSheets(workbook: Workbook, tables: readonly WrittenTable[]): Promise<void> {
  for (const { path, name, columns, rows } of tables) {
    const isInner = rows[0]?.parent !== undefined;
    const headers = [`${marker} ${path === "" ? single : path}`, ...(isInner ? [parentColumn] : []), ...columns.keys()];
    const sheet = workbook.sheet(
      name,
      headers.map((header) => toColumn(header)),
    );
    for (const [index, { parent, cells }] of rows.entries()) {
      const parentCell = parent === undefined ? [] : [parent];
      sheet.add([index + 1, ...parentCell, ...Array.from({ length: columns.size }, (_none, at) => cells[at] ?? null)]);
      if (index % 1000 === 999) await sheet.drained();
    }
    sheet.end(true);
  }
  await workbook.end(tables.map(({ name }) => name));
}

function toColumn(header: string): Column {
  return { header, width: Math.min(Math.max(header.length + 2, 10), 40), format: textOrNumber };
}

/** Shows numbers unrounded. A text that a person edits stays a text. */
const textOrNumber = `General;-General;General;${textFormat}`;

/** Returns whether an array gets its own sheet. An array of plain values does only when it is long. */
function isRows(value: unknown): value is readonly unknown[] {
  if (!Array.isArray(value) || value.length === 0) return false;
  const holdsObjects = value.some((item) => typeof item === "object" && item !== null);
  return holdsObjects || JSON.stringify(value).length > maxInlineCharacters;
}

function isFields(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length > 0;
}

function toCell(value: unknown, column: string): Cell {
  if (typeof value === "boolean") return value;
  if (typeof value === "number" && !Object.is(value, -0)) return value;
  const text = typeof value === "string" && isPlain(value) ? value : literal + escapeText(writeJsonText(value));
  if (text.length > maxText)
    throw new ConversionError(`${column} is longer than the ${maxText} characters that a cell holds`);
  return text;
}

/** Returns whether a sheet keeps the text unchanged. */
function isPlain(text: string): boolean {
  if (text === "" || text.startsWith(literal) || /^\s|\s$/.test(text)) return false;
  // Characters that XML cannot hold, and escapes that a reader would decode.
  return !/[\p{Cc}\ud800-\udfff\ufffe\uffff]|_x[0-9a-f]{4}_/iu.test(text);
}

/** Escapes the characters of JSON that a sheet cannot hold. */
function escapeText(json: string): string {
  return json.replaceAll(
    /[\ufffe\uffff]|_(?=x[0-9a-f]{4}_)/gi,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Returns a unique sheet name that Excel accepts. It is for people: readers take the path from the first cell. */
function nameOf(path: string, taken: Set<string>): string {
  const plain = path
    .replaceAll(each, "")
    .replaceAll(/[^\p{L}\p{N}_ .-]/gu, "_")
    .replaceAll(/^\.+|\.+$/g, "");
  const base = plain === "" ? "data" : plain;
  for (let number = 1; ; number += 1) {
    const suffix = number === 1 ? "" : ` ${number}`;
    // A name that is too long keeps its end, which says more than its beginning.
    // A leading half of a surrogate pair is removed: XML cannot hold it.
    const name = base.slice(-(maxNameCharacters - suffix.length)).replace(/^[\udc00-\udfff]/, "") + suffix;
    if (taken.has(name.toLowerCase())) continue;
    taken.add(name.toLowerCase());
    return name;
  }
}

import type { DescField, DescMessage } from "@bufbuild/protobuf";
import { isWellKnown } from "./fields.ts";
import type { Fields, JsonWriters, WriteField } from "./json/write.ts";

/** A list of messages. */
export type ListField = DescField & { readonly fieldKind: "list"; readonly message: DescMessage };

/** A format in which a list is one line for each item. */
export interface RowFormat {
  /** The value of the header Content-Type. */
  readonly contentType: string;
  /** The text before the first item. */
  readonly start: string;
  /** Returns the line of an item with its end. */
  readonly toLine: (item: Fields) => string;
}

/**
 * Returns the format of a media type for the items of a list.
 * @throws Error when there is no such format
 */
export function rowFormatOf(mediaType: string, { message }: ListField, writers: JsonWriters): RowFormat {
  if (mediaType === "text/csv") return csvOf(message, writers);
  if (mediaType !== "application/x-ndjson") throw new Error(`${message.typeName}: a list has no format ${mediaType}`);
  const write = writers.messageWriter(message);
  return { contentType: "application/x-ndjson; charset=utf-8", start: "", toLine: (item) => `${write(item)}\n` };
}

/**
 * CSV as in RFC 4180: a header row, commas, CRLF. A nested message has a column for each of its fields, with dots in the
 * name; other nested values are JSON text. Texts are in quotes, numbers and booleans are not, and an absent value is an
 * empty cell.
 */
function csvOf(message: DescMessage, writers: JsonWriters): RowFormat {
  const columns = columnsOf(message, [], writers);
  const toRow = (cells: readonly string[]) => `${cells.join(",")}\r\n`;
  return {
    contentType: "text/csv; charset=utf-8; header=present",
    start: toRow(columns.map(({ name }) => quote(name))),
    toLine: (item) => toRow(columns.map(({ write }) => toCell(write(item)))),
  };
}

interface Column {
  readonly name: string;
  /** Returns the JSON of the cell. Undefined: it is empty. */
  readonly write: WriteField;
}

/** Returns the columns in the order of the JSON. A message that contains itself is one column. */
function columnsOf(message: DescMessage, outer: readonly DescField[], writers: JsonWriters): Column[] {
  const fields = message.fields.toSorted((left, right) => left.number - right.number);
  return fields.flatMap((field) => {
    const path = [...outer, field];
    const isNested = field.fieldKind === "message" && !isWellKnown(field.message);
    const isRecursive = path.some(({ parent }) => parent === field.message);
    if (isNested && !isRecursive) return columnsOf(field.message, path, writers);
    const write = writers.fieldWriter(field);
    const name = path.map((step) => step.name).join(".");
    return [{ name, write: outer.length === 0 ? write : (item) => writeInner(item, outer, write) }];
  });
}

function writeInner(item: Fields, outer: readonly DescField[], write: WriteField): string | undefined {
  let message: Fields | undefined = item;
  for (const field of outer) message = message && nestedOf(message, field);
  return message && write(message);
}

function nestedOf(message: Fields, { localName, oneof }: DescField): Fields | undefined {
  if (oneof === undefined) return message[localName] as Fields | undefined;
  const chosen = message[oneof.localName] as { readonly case?: string; readonly value?: Fields } | undefined;
  return chosen?.case === localName ? chosen.value : undefined;
}

function toCell(json: string | undefined): string {
  if (json === undefined || json === "null") return "";
  if (json.startsWith("{") || json.startsWith("[")) return quote(json);
  if (!json.startsWith('"')) return json;
  const text = json.includes("\\") ? (JSON.parse(json) as string) : json.slice(1, -1);
  return quote(formulaStart.test(text) ? `'${text}` : text);
}

/**
 * The starts of texts that a spreadsheet may take for a formula. Such a text gets an apostrophe in front. A text that begins
 * with an apostrophe gets another one, so that removing one apostrophe returns every value.
 */
const formulaStart = /^(?:'|[\t\r\n]|\s*[=+\-@＝＋－＠])/;

function quote(text: string): string {
  return `"${text.replaceAll('"', '""')}"`;
}

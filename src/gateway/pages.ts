import type { DescField, DescMessage } from "@bufbuild/protobuf";
import { preferredType } from "./accept.ts";
import type { SendResponse } from "./exchange.ts";
import type { Fields, JsonWriters } from "./json/write.ts";
import { type ListField, type RowFormat, rowFormatOf } from "./rows.ts";
import { jsonType, sendBody, startBody, writePiece } from "./send.ts";

export interface PagesOptions {
  /** The message of a page. */
  readonly desc: DescMessage;
  readonly status: number;
  /** The media types beside JSON that a caller may ask for by the header Accept. */
  readonly mediaTypes: readonly string[];
  readonly writers: JsonWriters;
}

/** Writes the pages of one response. */
interface PageWriter {
  /** Returns the text of a page. Empty: the page has no items. */
  write(page: Fields): string;
  /** Returns the text after the last page. */
  end(): string;
}

/** Small pages are joined to pieces of at least this many characters: each piece is a write to the socket. */
const pieceLength = 65_536;

/**
 * Sends a stream of pages as one list: a JSON object, or lines of one of the media types.
 * @throws Error when a page does not have exactly one list, or a media type has no format for it
 */
export function respondPages({ desc, status, mediaTypes, writers }: PagesOptions): SendResponse {
  const list = listOf(desc);
  const asJson = send(status, jsonType, prepareJson(desc, list, writers));
  if (mediaTypes.length === 0) return asJson;
  const formats = new Map<string, SendResponse>([["application/json", asJson]]);
  for (const type of mediaTypes) {
    const format = rowFormatOf(type, list, writers);
    formats.set(type, send(status, format.contentType, prepareRows(list, format)));
  }
  const [first = "", ...others] = formats.keys();
  return (response, output, context) => {
    const type = preferredType(context.requestHeader.get("accept"), [first, ...others]);
    // The header may have a value already: another one is added.
    response.appendHeader("vary", "Accept");
    return (formats.get(type) ?? asJson)(response, output, context);
  };
}

function listOf({ typeName, fields }: DescMessage): ListField {
  const [list, ...otherLists] = fields.filter(isList);
  if (list?.message === undefined || otherLists.length > 0) {
    throw new Error(`${typeName}: a page must have exactly one list, and it must be of messages`);
  }
  return list;
}

function isList(field: DescField): field is DescField & { readonly fieldKind: "list" } {
  return field.fieldKind === "list";
}

function send(status: number, contentType: string, createWriter: () => PageWriter): SendResponse {
  return async (response, output, context) => {
    const head = () => ({ status, headers: context.givenHeader, contentType });
    const writer = createWriter();
    let pending = "";
    for await (const page of output as AsyncIterable<Fields>) {
      // Reading the signal would create it, which short answers do not need.
      if (context.interruption !== undefined) throw context.interruption.reason;
      const text = writer.write(page);
      if (text === "") continue;
      // The body starts once the second page arrives, so that a single page is sent with its Content-Length.
      if (pending !== "" && !response.headersSent) {
        startBody(response, head());
        // HEAD has no body; returning ends the handler.
        if (context.requestMethod === "HEAD") return void response.end();
      }
      if (pending.length >= pieceLength) {
        await writePiece(response, pending, context.signal);
        pending = "";
      }
      pending += text;
    }
    const end = pending + writer.end();
    if (response.headersSent) response.end(end);
    else sendBody(response, head(), end);
  };
}

/** Merges pages into one JSON object. Their lists are concatenated. Each other field has the last value that a page sets. */
function prepareJson({ fields }: DescMessage, list: ListField, writers: JsonWriters): () => PageWriter {
  const writeItems = writers.itemsWriter(list);
  const members = fields
    .filter((field) => field !== list)
    .map((field) => ({ key: `,"${field.name}":`, write: writers.fieldWriter(field) }))
    .map(({ key, write }) => ({ key, write, unset: write({}) }));
  return () => {
    const start = `{"${list.name}":[`;
    const values = members.map(({ unset }) => unset);
    let separator = start;
    return {
      write(page) {
        for (const [index, { write, unset }] of members.entries()) {
          const value = write(page);
          if (value !== unset) values[index] = value;
        }
        const items = writeItems(itemsOf(page, list));
        if (items === "") return "";
        const text = separator + items;
        separator = ",";
        return text;
      },
      end() {
        const tail = members.map(({ key }, index) => (values[index] === undefined ? "" : `${key}${values[index]}`));
        // Without any item, the list has not begun.
        return `${separator === start ? start : ""}]${tail.join("")}}`;
      },
    };
  };
}

/** Writes the items of all pages as lines. The other fields of a page are left out. */
function prepareRows(list: ListField, { start, toLine }: RowFormat): () => PageWriter {
  return () => {
    let before = start;
    return {
      write(page) {
        let lines = "";
        for (const item of itemsOf(page, list)) lines += toLine(item as Fields);
        if (lines === "") return "";
        const text = before + lines;
        before = "";
        return text;
      },
      end: () => before,
    };
  };
}

function itemsOf(page: Fields, { localName }: ListField): readonly unknown[] {
  return (page[localName] ?? []) as readonly unknown[];
}

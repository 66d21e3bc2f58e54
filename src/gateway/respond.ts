import type { DescField, DescMessage } from "@bufbuild/protobuf";
import type { HttpBody } from "#gen/google/api/httpbody_pb.js";
import type { LightContext } from "../call/context.ts";
import { preconditionOf } from "../call/preconditions.ts";
import { type Binding, respondsWithFile } from "./binding.ts";
import { HttpError } from "./errors.ts";
import type { GatewayResponse } from "./exchange.ts";
import type { Fields, JsonWriters } from "./json/write.ts";
import { jsonType, sendBody, sendEmpty, startBody, writePiece } from "./send.ts";

/** The output of an RPC: a message, or the fields to create it of. The gateway writes both, and creates no message. */
export type Output = Fields | AsyncIterable<Fields>;

/** Writes the output of an RPC as an HTTP response. */
export type SendResponse = (response: GatewayResponse, output: Output, context: LightContext) => Promise<void>;

/**
 * Prepares the responses of a binding: JSON, a file (HttpBody), or one JSON object from a stream of pages.
 * @throws Error when pages cannot be merged because they do not have exactly one list
 */
export function createSendResponse(binding: Binding, writers: JsonWriters): SendResponse {
  const { method, status, responseBody } = binding;
  const isStream = method.methodKind === "server_streaming";
  if (respondsWithFile(binding)) {
    const fileOf = (output: Fields) =>
      (responseBody === undefined ? output : output[responseBody.localName]) as Partial<HttpBody> | undefined;
    return isStream ? respondChunks(status, fileOf) : respondFile(status, fileOf);
  }
  if (isStream && responseBody !== undefined) {
    throw new Error(`${method.parent.typeName}.${method.name}: response_body of a stream must be a file`);
  }
  if (isStream) return respondPages(method.output, status, writers);
  const write = responseBody === undefined ? writers.messageWriter(method.output) : writers.fieldWriter(responseBody);
  return async (response, output, { givenHeader: headers }) => {
    if (status === 204) return sendEmpty(response, { status, headers });
    sendBody(response, { status, headers, contentType: jsonType }, write(output as Fields) ?? "null");
  };
}

/** Returns the file that a message is or contains; undefined when it is not set. */
type FileOf = (output: Fields) => Partial<HttpBody> | undefined;

const typeOf = (file: Partial<HttpBody> | undefined) => file?.contentType || "application/octet-stream";
const empty = new Uint8Array();

function respondFile(status: number, fileOf: FileOf): SendResponse {
  return async (response, output, { givenHeader: headers, requestHeader }) => {
    const file = fileOf(output as Fields);
    if (headers !== undefined && isUnchanged(requestHeader, headers)) {
      return sendEmpty(response, { status: 304, headers });
    }
    sendBody(response, { status, headers, contentType: typeOf(file) }, file?.data ?? empty);
  };
}

/**
 * Whether the caller already has the file (304).
 * @throws HttpError when If-Match does not name the file's ETag (412)
 */
function isUnchanged(request: Headers, response: Headers): boolean {
  const precondition = preconditionOf(request, response.get("etag"));
  if (precondition === "failed") {
    throw new HttpError("PRECONDITION_FAILED", `If-Match must name the current ETag: ${response.get("etag")}`);
  }
  return precondition === "unchanged";
}

/** Writes a file in chunks. The first chunk has the content type. */
function respondChunks(status: number, fileOf: FileOf): SendResponse {
  return async (response, output, { requestHeader, responseHeader: headers, signal, requestMethod }) => {
    for await (const message of output as AsyncIterable<Fields>) {
      const chunk = fileOf(message);
      if (!response.headersSent) {
        if (isUnchanged(requestHeader, headers)) {
          for (const name of ["content-length", "content-range"]) headers.delete(name);
          return sendEmpty(response, { status: 304, headers });
        }
        // A handler that returns a part of the file sets Content-Range (RFC 9110, 15.3.7).
        const partial = headers.has("content-range") ? 206 : status;
        startBody(response, { status: partial, headers, contentType: typeOf(chunk) });
      }
      if (requestMethod === "HEAD") break;
      await writePiece(response, chunk?.data ?? empty, signal);
    }
    if (response.headersSent) response.end();
    else sendEmpty(response, { status, headers });
  };
}

/** Small pages are joined to pieces of at least this many characters: each piece is a write to the socket. */
const pieceLength = 65_536;

/** Merges pages into one JSON object: their lists are concatenated, and of each other field the last value is written. */
function respondPages(desc: DescMessage, status: number, writers: JsonWriters): SendResponse {
  const { list, others } = fieldsOfPage(desc);
  const writeItems = writers.itemsWriter(list);
  const members = others.map(({ name, write }) => ({ key: `,"${name}":`, write, unset: write({}) }));

  return async (response, output, context) => {
    const { signal, requestMethod } = context;
    const head = () => ({ status, headers: context.givenHeader, contentType: jsonType });
    const values = members.map(({ unset }) => unset);
    let separator = `{"${list.name}":[`;
    let pending = "";
    for await (const page of output as AsyncIterable<Fields>) {
      signal.throwIfAborted();
      for (const [index, { write, unset }] of members.entries()) {
        const value = write(page);
        if (value !== unset) values[index] = value;
      }
      const items = writeItems((page[list.localName] ?? []) as readonly unknown[]);
      if (items === "") continue;
      // The body starts once the second page arrives, so that a single page is sent with its Content-Length.
      if (pending !== "" && !response.headersSent) {
        startBody(response, head());
        // HEAD has no body; returning ends the handler.
        if (requestMethod === "HEAD") return void response.end();
      }
      if (pending.length >= pieceLength) {
        await writePiece(response, pending, signal);
        pending = "";
      }
      pending += separator + items;
      separator = ",";
    }
    // Without any page, the list has not begun.
    if (separator !== ",") pending = separator;
    const tail = members.map(({ key }, index) => (values[index] === undefined ? "" : `${key}${values[index]}`));
    const end = `${pending}]${tail.join("")}}`;
    if (response.headersSent) response.end(end);
    else sendBody(response, head(), end);
  };

  function fieldsOfPage({ typeName, fields }: DescMessage) {
    const [first, ...otherLists] = fields.filter(isList);
    if (first?.message === undefined || otherLists.length > 0) {
      throw new Error(`${typeName}: a page must have exactly one list, and it must be of messages`);
    }
    const rest = fields.filter((field) => field !== first);
    return { list: first, others: rest.map((field) => ({ name: field.name, write: writers.fieldWriter(field) })) };
  }
}

function isList(field: DescField): field is DescField & { readonly fieldKind: "list" } {
  return field.fieldKind === "list";
}

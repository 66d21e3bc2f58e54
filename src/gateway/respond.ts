import { create, type DescMessage, type JsonValue, type Message, type Registry } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import type { HttpBody } from "#gen/google/api/httpbody_pb.js";
import type { LightContext } from "../call/context.ts";
import { preconditionOf } from "../call/preconditions.ts";
import { type Binding, respondsWithFile } from "./binding.ts";
import { HttpError } from "./errors.ts";
import type { GatewayResponse } from "./exchange.ts";
import { writeMessage } from "./json/write.ts";
import { jsonType, sendBody, sendEmpty, startBody, writePiece } from "./send.ts";

/** Writes the output of an RPC as an HTTP response. */
export type SendResponse = (
  response: GatewayResponse,
  output: Message | AsyncIterable<Message>,
  context: LightContext,
) => Promise<void>;

/**
 * Prepares the responses of a binding: JSON, a file (HttpBody), or one JSON object from a stream of pages.
 * @throws Error when pages cannot be merged because they do not have exactly one list
 */
export function createSendResponse(binding: Binding, registry: Registry | undefined): SendResponse {
  const { method, status, responseBody } = binding;
  const isStream = method.methodKind === "server_streaming";
  if (respondsWithFile(binding)) {
    const fileOf = (output: Message) =>
      (responseBody === undefined ? output : (output as Partial<Record<string, unknown>>)[responseBody.localName]) as
        | HttpBody
        | undefined;
    return isStream ? respondChunks(status, fileOf) : respondFile(status, fileOf);
  }
  if (isStream && responseBody !== undefined) {
    throw new Error(`${method.parent.typeName}.${method.name}: response_body of a stream must be a file`);
  }
  if (isStream) return respondPages(method.output, status, registry);
  return async (response, output, { givenHeader: headers }) => {
    if (status === 204) return sendEmpty(response, { status, headers });
    sendBody(
      response,
      { status, headers, contentType: jsonType },
      JSON.stringify(jsonOf(binding, output as Message, registry)),
    );
  };
}

function jsonOf({ method, responseBody }: Binding, output: Message, registry: Registry | undefined): JsonValue {
  const json = writeMessage(method.output, output, registry);
  if (responseBody === undefined || typeof json !== "object" || json === null || Array.isArray(json)) return json;
  return json[responseBody.name] ?? null;
}

/** Returns the file that a message is or contains; undefined when it is not set. */
type FileOf = (output: Message) => HttpBody | undefined;

const typeOf = (file: HttpBody | undefined) => file?.contentType || "application/octet-stream";
const empty = new Uint8Array();

function respondFile(status: number, fileOf: FileOf): SendResponse {
  return async (response, output, { givenHeader: headers, requestHeader }) => {
    const file = fileOf(output as Message);
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
    for await (const message of output as AsyncIterable<Message>) {
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

/** Merges pages into one JSON object: their lists are concatenated, and of each other field the last value is written. */
function respondPages(desc: DescMessage, status: number, registry: Registry | undefined): SendResponse {
  const [list, ...otherLists] = desc.fields.filter(({ fieldKind }) => fieldKind === "list");
  if (list?.message === undefined || otherLists.length > 0) {
    throw new Error(`${desc.typeName}: a page must have exactly one list, and it must be of messages`);
  }
  const others = desc.fields.filter((field) => field !== list);
  const unset = writeMessage(desc, create(desc), registry) as Record<string, JsonValue>;

  return async (response, output, context) => {
    const { signal, requestMethod } = context;
    const head = () => ({ status, headers: context.givenHeader, contentType: jsonType });
    const rest = { ...unset };
    let separator = `{${JSON.stringify(list.name)}:[`;
    let pending = "";
    for await (const page of output as AsyncIterable<Message>) {
      signal.throwIfAborted();
      const json = writeMessage(desc, page, registry) as Record<string, JsonValue>;
      const reflected = reflect(desc, page);
      for (const field of others) if (reflected.isSet(field)) rest[field.name] = json[field.name] ?? null;
      const items = json[list.name] as JsonValue[];
      if (items.length === 0) continue;
      // A page is sent once the next one arrives, so that a single page is sent with its Content-Length.
      if (pending !== "") {
        if (!response.headersSent) startBody(response, head());
        // HEAD has no body; returning ends the handler.
        if (requestMethod === "HEAD") return void response.end();
        await writePiece(response, pending, signal);
      }
      pending = separator + JSON.stringify(items).slice(1, -1);
      separator = ",";
    }
    if (pending === "") pending = separator;
    const tail = others.filter(({ name }) => rest[name] !== undefined);
    const members = tail.map(({ name }) => `,${JSON.stringify(name)}:${JSON.stringify(rest[name])}`);
    const end = `${pending}]${members.join("")}}`;
    if (response.headersSent) response.end(end);
    else sendBody(response, head(), end);
  };
}

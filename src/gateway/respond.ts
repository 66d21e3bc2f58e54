import { create, type DescMessage, type JsonValue, type Message, type Registry } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import type { HttpBody } from "#gen/google/api/httpbody_pb.js";
import type { LightContext } from "../call/context.ts";
import { preconditionOf } from "../call/preconditions.ts";
import { answersFile, type Binding } from "./binding.ts";
import { HttpError } from "./errors.ts";
import type { GatewayResponse } from "./exchange.ts";
import { writeMessage } from "./json/write.ts";
import { jsonType, sendBody, sendEmpty, startBody, writePiece } from "./send.ts";

/** Writes the answer of an RPC. */
export type SendAnswer = (
  response: GatewayResponse,
  answer: Message | AsyncIterable<Message>,
  context: LightContext,
) => Promise<void>;

/**
 * Prepares the answers of a binding: JSON, a file (HttpBody), or one JSON object out of a stream of pages.
 * @throws Error where a stream's pages have no single list that their merge would append to
 */
export function createSendAnswer(binding: Binding, registry: Registry | undefined): SendAnswer {
  const { method, status, responseBody } = binding;
  const isStream = method.methodKind === "server_streaming";
  if (answersFile(binding)) {
    const fileOf = (answer: Message) =>
      (responseBody === undefined ? answer : (answer as Partial<Record<string, unknown>>)[responseBody.localName]) as
        | HttpBody
        | undefined;
    return isStream ? respondChunks(status, fileOf) : respondFile(status, fileOf);
  }
  if (isStream && responseBody !== undefined) {
    throw new Error(`${method.parent.typeName}.${method.name}: response_body of a stream that is no file`);
  }
  if (isStream) return respondPages(method.output, status, registry);
  return async (response, answer, { givenHeader: headers }) => {
    if (status === 204) return sendEmpty(response, { status, headers });
    sendBody(
      response,
      { status, headers, contentType: jsonType },
      JSON.stringify(jsonOf(binding, answer as Message, registry)),
    );
  };
}

function jsonOf({ method, responseBody }: Binding, answer: Message, registry: Registry | undefined): JsonValue {
  const json = writeMessage(method.output, answer, registry);
  if (responseBody === undefined || typeof json !== "object" || json === null || Array.isArray(json)) return json;
  return json[responseBody.name] ?? null;
}

/** The file that a message is or has; undefined where it has none. */
type FileOf = (answer: Message) => HttpBody | undefined;

const typeOf = (file: HttpBody | undefined) => file?.contentType || "application/octet-stream";
const empty = new Uint8Array();

function respondFile(status: number, fileOf: FileOf): SendAnswer {
  return async (response, answer, { givenHeader: headers, requestHeader }) => {
    const file = fileOf(answer as Message);
    if (headers !== undefined && isUnchanged(requestHeader, headers)) {
      return sendEmpty(response, { status: 304, headers });
    }
    sendBody(response, { status, headers, contentType: typeOf(file) }, file?.data ?? empty);
  };
}

/**
 * Whether the caller has the answer already.
 * @throws HttpError where the caller wants another one
 */
function isUnchanged(request: Headers, answer: Headers): boolean {
  const precondition = preconditionOf(request, answer.get("etag"));
  if (precondition === "failed") {
    throw new HttpError("PRECONDITION_FAILED", `If-Match does not name the present ETag: ${answer.get("etag")}`);
  }
  return precondition === "unchanged";
}

/** The first chunk says the type. */
function respondChunks(status: number, fileOf: FileOf): SendAnswer {
  return async (response, answer, { requestHeader, responseHeader: headers, signal, requestMethod }) => {
    for await (const message of answer as AsyncIterable<Message>) {
      const chunk = fileOf(message);
      if (!response.headersSent) {
        if (isUnchanged(requestHeader, headers)) {
          for (const name of ["content-length", "content-range"]) headers.delete(name);
          return sendEmpty(response, { status: 304, headers });
        }
        // A handler that answers with a part says which (RFC 9110, 15.3.7).
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

/** The pages' lists run on, one after the other; what else they say is written after the list, the last one counts. */
function respondPages(desc: DescMessage, status: number, registry: Registry | undefined): SendAnswer {
  const [list, ...otherLists] = desc.fields.filter(({ fieldKind }) => fieldKind === "list");
  if (list?.message === undefined || otherLists.length > 0) {
    throw new Error(`${desc.typeName}: a stream of pages needs exactly one list in them, of messages`);
  }
  const others = desc.fields.filter((field) => field !== list);
  const unset = writeMessage(desc, create(desc), registry) as Record<string, JsonValue>;

  return async (response, answer, context) => {
    const { signal, requestMethod } = context;
    const head = () => ({ status, headers: context.givenHeader, contentType: jsonType });
    const rest = { ...unset };
    let separator = `{${JSON.stringify(list.name)}:[`;
    let pending = "";
    for await (const page of answer as AsyncIterable<Message>) {
      signal.throwIfAborted();
      const json = writeMessage(desc, page, registry) as Record<string, JsonValue>;
      const reflected = reflect(desc, page);
      for (const field of others) if (reflected.isSet(field)) rest[field.name] = json[field.name] ?? null;
      const items = json[list.name] as JsonValue[];
      if (items.length === 0) continue;
      // The page before is sent when the next one has come: an answer of one page is sent whole, with its length.
      if (pending !== "") {
        if (!response.headersSent) startBody(response, head());
        // Nobody reads what comes now; leaving ends the handler.
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

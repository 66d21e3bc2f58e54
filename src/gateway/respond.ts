import { once } from "node:events";
import type { DescMessage, JsonValue, Message } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import type { HttpBody } from "#gen/google/api/httpbody_pb.js";
import type { Binding } from "./binding.ts";
import type { GatewayContext } from "./context.ts";
import type { GatewayResponse } from "./gateway.ts";
import { writeMessage } from "./json/write.ts";

/** Writes the answer of an RPC. */
export type Respond = (
  response: GatewayResponse,
  answer: Message | AsyncIterable<Message>,
  context: GatewayContext,
) => Promise<void>;

const httpBody = "google.api.HttpBody";

/**
 * Prepares the answers of a binding: JSON, a file (HttpBody), or one JSON object out of a stream of pages.
 * @throws Error where a stream's pages have no single list that their merge would append to
 */
export function createRespond(binding: Binding): Respond {
  const { method, status } = binding;
  if (method.methodKind === "server_streaming") {
    return method.output.typeName === httpBody ? respondFile(status) : respondPages(method.output, status);
  }
  if (method.output.typeName === httpBody) return respondFile(status);
  return async (response, answer, context) => {
    if (status === 204) return finish(response, status, context, undefined);
    const json = jsonOf(binding, answer as Message);
    finish(response, status, context, JSON.stringify(json));
  };
}

/** Sends a whole body; undefined is none. */
export function finish(
  response: GatewayResponse,
  status: number,
  { responseHeader }: Pick<GatewayContext, "responseHeader">,
  body: string | undefined,
): void {
  const headers: Record<string, string | number> = Object.fromEntries(responseHeader);
  if (body !== undefined) {
    headers["content-type"] = "application/json; charset=utf-8";
    headers["content-length"] = Buffer.byteLength(body);
  }
  response.writeHead(status, headers);
  if (body === undefined) response.end();
  else response.end(body);
}

function jsonOf({ method, responseBody }: Binding, answer: Message): JsonValue {
  const json = writeMessage(method.output, answer);
  if (responseBody === undefined || typeof json !== "object" || json === null || Array.isArray(json)) return json;
  return json[responseBody.name] ?? null;
}

function respondFile(status: number): Respond {
  return async (response, answer, { responseHeader, signal }) => {
    const chunks = Symbol.asyncIterator in answer ? answer : [answer];
    for await (const chunk of chunks as AsyncIterable<HttpBody>) {
      if (!response.headersSent) {
        const contentType = chunk.contentType || "application/octet-stream";
        response.writeHead(status, { ...Object.fromEntries(responseHeader), "content-type": contentType });
      }
      await write(response, chunk.data, signal);
    }
    response.end();
  };
}

/** The pages' lists run on, one after the other; what else they say is written after the list, the last one counts. */
function respondPages(desc: DescMessage, status: number): Respond {
  const lists = desc.fields.filter(({ fieldKind }) => fieldKind === "list");
  const [list] = lists;
  if (list === undefined || lists.length > 1) {
    throw new Error(`${desc.typeName}: a stream of pages needs exactly one list in them`);
  }
  return async (response, answer, { responseHeader, signal }) => {
    const rest: Record<string, JsonValue> = {};
    let separator = `{${JSON.stringify(list.name)}:[`;
    let pending = "";
    for await (const page of answer as AsyncIterable<Message>) {
      const json = writeMessage(desc, page) as Record<string, JsonValue>;
      const items = json[list.name] as JsonValue[];
      for (const field of desc.fields) {
        if (field !== list && reflect(desc, page).isSet(field)) rest[field.name] = json[field.name] ?? null;
      }
      // The page before is sent when the next one has come: an answer of one page is sent whole, with its length.
      if (pending !== "" && items.length > 0) {
        if (!response.headersSent) response.writeHead(status, { ...Object.fromEntries(responseHeader), ...jsonType });
        await write(response, pending, signal);
        pending = "";
      }
      if (items.length === 0) continue;
      pending += separator + JSON.stringify(items).slice(1, -1);
      separator = ",";
    }
    if (separator !== ",") pending = separator;
    const tail = JSON.stringify(rest).slice(1);
    const end = `${pending}]${tail === "}" ? "" : ","}${tail}`;
    if (response.headersSent) response.end(end);
    else finish(response, status, { responseHeader }, end);
  };
}

const jsonType = { "content-type": "application/json; charset=utf-8" };

/** Writes a part and waits until the reader has taken enough of it. */
async function write(response: GatewayResponse, part: string | Uint8Array, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if (!(response.write as (part: string | Uint8Array) => boolean)(part)) await once(response, "drain", { signal });
}

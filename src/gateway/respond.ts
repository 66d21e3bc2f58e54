import { getOption } from "@bufbuild/protobuf";
import { operation } from "#gen/gateway/v1/annotations_pb.js";
import type { HttpBody } from "#gen/google/api/httpbody_pb.js";
import { preconditionOf } from "../call/preconditions.ts";
import { type Binding, respondsWithFile } from "./binding.ts";
import { HttpError } from "./errors.ts";
import type { SendResponse } from "./exchange.ts";
import type { Fields, JsonWriters } from "./json/write.ts";
import { respondPages } from "./pages.ts";
import { jsonType, sendBody, sendEmpty, startBody, writePiece } from "./send.ts";

/**
 * Prepares the responses of a binding: JSON, a file (HttpBody), or one list from a stream of pages.
 * @throws Error when pages cannot be merged because they do not have exactly one list, or have no such format
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
  if (isStream) {
    const { mediaTypes } = getOption(method, operation);
    return respondPages({ desc: method.output, status, mediaTypes, writers });
  }
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

import { constants } from "node:http2";
import type { SentResponse } from "../pipeline/call-log.ts";
import type { Request, Response } from "../pipeline/client-origin.ts";

/** Calls the listener once, when the response is sent or the caller has left. */
export function onResponseEnd(request: Request, response: Response, listener: (sent: SentResponse) => void): void {
  const counted = countBytes(response);
  response.once("close", () =>
    listener({
      httpMethod: request.method ?? "",
      status: response.statusCode,
      // Node drops the body of a response to HEAD.
      bytes: request.method === "HEAD" ? 0 : counted.bytes,
      isComplete: isComplete(response),
    }),
  );
}

/** The methods of both kinds of responses that write the body. */
interface BodyWriter {
  write(chunk?: unknown, ...rest: unknown[]): boolean;
  end(chunk?: unknown, ...rest: unknown[]): unknown;
}

/** A response whose body is counted, with its own methods. */
type CountedWriter = BodyWriter & { [countKey]: Pick<BodyWriter, "write" | "end"> & { bytes: number } };

const countKey = Symbol("bytes of the body");

/** Counts the bytes of the body as they are written: neither version of HTTP offers the number. */
function countBytes(response: Response): { readonly bytes: number } {
  const { write, end } = response as BodyWriter;
  const counted = { bytes: 0, write, end };
  // All responses share these functions, as bodies do in body-pieces.ts. The end of HTTP/2 responses calls write.
  const methods = "stream" in response ? { write: writeCounted } : { write: writeCounted, end: endCounted };
  Object.assign(response, { [countKey]: counted, ...methods });
  return counted;
}

function writeCounted(this: CountedWriter, chunk: unknown, ...rest: unknown[]): boolean {
  this[countKey].bytes += sizeOf(chunk);
  return this[countKey].write.call(this, chunk, ...rest);
}

function endCounted(this: CountedWriter, chunk: unknown, ...rest: unknown[]): unknown {
  this[countKey].bytes += sizeOf(chunk);
  return this[countKey].end.call(this, chunk, ...rest);
}

function sizeOf(chunk: unknown): number {
  if (typeof chunk === "string") return Buffer.byteLength(chunk);
  return chunk instanceof Uint8Array ? chunk.length : 0;
}

function isComplete(response: Response): boolean {
  if (!("stream" in response)) return response.writableFinished;
  // The "finish" event of HTTP/2 comes after a reset too.
  return response.writableEnded && response.stream.rstCode === constants.NGHTTP2_NO_ERROR;
}

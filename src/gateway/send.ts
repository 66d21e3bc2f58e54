import { once } from "node:events";
import { constants } from "node:http2";
import { toNodeHeaders } from "../call/headers.ts";
import type { GatewayResponse } from "./exchange.ts";

export const jsonType = "application/json; charset=utf-8";

/** The start of a response. */
export interface Head {
  readonly status: number;
  /** Headers that the handler set, if any. */
  readonly headers: Headers | undefined;
  readonly contentType: string;
}

/** Sends a complete response with its Content-Length. */
export function sendBody(response: GatewayResponse, head: Head, body: string | Uint8Array): void {
  const length = Buffer.byteLength(body);
  response.writeHead(head.status, {
    ...(head.headers && toNodeHeaders(head.headers)),
    "content-type": head.contentType,
    "content-length": length,
  });
  (response as BodyWriter).end(body, encodingOf(body, length));
}

/** The methods of both kinds of responses that write the body. */
interface BodyWriter {
  write(body: string | Uint8Array, encoding: BufferEncoding): boolean;
  end(body: string | Uint8Array, encoding: BufferEncoding): unknown;
}

/** Returns the encoding of a body. Node copies ASCII faster as Latin-1, and together with the headers. */
function encodingOf(body: string | Uint8Array, bytes: number): BufferEncoding {
  return bytes === body.length ? "latin1" : "utf8";
}

/** Sends a response without a body. */
export function sendEmpty(response: GatewayResponse, { status, headers }: Pick<Head, "status" | "headers">): void {
  response.writeHead(status, headers && toNodeHeaders(headers));
  response.end();
}

/** Starts a response that is written in pieces. */
export function startBody(response: GatewayResponse, { status, headers, contentType }: Head): void {
  response.writeHead(status, { ...(headers && toNodeHeaders(headers)), "content-type": contentType });
}

/**
 * Writes a piece and waits until the reader has caught up.
 * @throws the signal's reason when the call is interrupted
 */
export async function writePiece(
  response: GatewayResponse,
  piece: string | Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const hasRoom = (response as BodyWriter).write(piece, encodingOf(piece, Buffer.byteLength(piece)));
  if (!hasRoom) await once(response, "drain", { signal });
}

/** Cuts a response, so that its reader sees that it is incomplete. */
export function destroyResponse(response: GatewayResponse): void {
  // A destroyed HTTP/2 stream looks complete to the reader. Only the error code shows that it is not.
  if ("stream" in response) response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  else response.destroy();
}

/** Whether the caller can still read the response. */
export function isResponseOpen(response: GatewayResponse): boolean {
  return "stream" in response ? !response.stream.closed && !response.stream.destroyed : !response.destroyed;
}

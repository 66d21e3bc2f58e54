import { once } from "node:events";
import { constants } from "node:http2";
import type { GatewayResponse } from "./exchange.ts";

export const jsonType = "application/json; charset=utf-8";

/** The start of an answer. */
export interface Head {
  readonly status: number;
  /** What the handler wants to be sent, if anything. */
  readonly headers: Headers | undefined;
  readonly contentType: string;
}

/** Sends a whole answer with its length. */
export function sendBody(response: GatewayResponse, head: Head, body: string | Uint8Array): void {
  const length = Buffer.byteLength(body);
  response.writeHead(head.status, {
    ...toNode(head.headers),
    "content-type": head.contentType,
    "content-length": length,
  });
  response.end(body);
}

/** Sends an answer that has no body. */
export function sendEmpty(response: GatewayResponse, { status, headers }: Pick<Head, "status" | "headers">): void {
  response.writeHead(status, toNode(headers));
  response.end();
}

/** Starts an answer that comes in parts. */
export function startBody(response: GatewayResponse, { status, headers, contentType }: Head): void {
  response.writeHead(status, { ...toNode(headers), "content-type": contentType });
}

/**
 * Writes a part and waits until the reader has taken enough of it.
 * @throws the signal's reason when nobody reads any more
 */
export async function writePiece(
  response: GatewayResponse,
  part: string | Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  if (!(response.write as (part: string | Uint8Array) => boolean)(part)) await once(response, "drain", { signal });
}

/** Ends an answer so that its reader knows that the rest is missing. */
export function destroyAnswer(response: GatewayResponse): void {
  // A stream that is merely destroyed ends like a complete one: HTTP/2 tells by the code alone.
  if ("stream" in response) response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  else response.destroy();
}

/** Whether somebody can still read an answer. */
export function isAnswerOpen(response: GatewayResponse): boolean {
  return "stream" in response ? !response.stream.closed && !response.stream.destroyed : !response.destroyed;
}

/** Without what belongs to the connection: Node writes it, and HTTP/2 forbids it. */
function toNode(headers: Headers | undefined): Record<string, string | string[]> | undefined {
  if (headers === undefined) return undefined;
  const result: Record<string, string | string[]> = {};
  for (const [name, value] of headers) if (!ofConnection.has(name)) result[name] = value;
  const cookies = headers.getSetCookie();
  if (cookies.length > 0) result["set-cookie"] = cookies;
  return result;
}

const ofConnection: ReadonlySet<string> = new Set(["connection", "keep-alive", "transfer-encoding", "upgrade"]);

import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { isIP } from "node:net";
import { type ContextValues, createContextKey, createContextValues } from "@connectrpc/connect";
import { isTracecode, tracecodeHeader, tracecodeOf } from "./trace.ts";

export type Request = IncomingMessage | Http2ServerRequest;
export type Response = ServerResponse | Http2ServerResponse;

/** Where a request comes from: what every door knows of it before it looks at the message. */
export interface Origin {
  /** The caller's network address. */
  readonly address: string;
  /** The caller's tracecode, or one made here. */
  readonly code: string;
  /** Whether the caller sent a tracecode that is none. */
  readonly codeRefused: boolean;
}

const origins = new WeakMap<Request, Origin>();
const unknown: Origin = { address: "", code: "00000000-0000-0000-0000-000000000000", codeRefused: false };

/** How a handler context carries the origin. */
export const originKey = createContextKey(unknown, { description: "where the request comes from" });

/**
 * Reads the origin of a request and returns its tracecode in the response's headers: once, before any door, so that
 * even an answer that no handler made carries it.
 * @param trustedProxies how many proxies stand in front; each adds one address to X-Forwarded-For
 */
export function receive(request: Request, response: Response, trustedProxies: number): void {
  const header = request.headers[tracecodeHeader];
  const code = tracecodeOf(header);
  origins.set(request, {
    address: addressOf(request, trustedProxies),
    code,
    codeRefused: header !== undefined && !isTracecode(header),
  });
  response.setHeader(tracecodeHeader, code);
  // A request as it is sent to a proxy names the server too, and is to be served like any other (RFC 9112, 3.2.2).
  if (request.url !== undefined) request.url = request.url.replace(/^https?:\/\/[^/?#]*(?=[/?])/i, "");
}

export function originOf(request: Request | undefined): Origin {
  return (request && origins.get(request)) ?? { ...unknown, code: randomUUID() };
}

/** The origin as a handler context carries it. */
export function originValues(request: Request): ContextValues {
  return createContextValues().set(originKey, originOf(request));
}

function addressOf(request: Request, trustedProxies: number): string {
  const peer = request.socket?.remoteAddress ?? "";
  if (trustedProxies === 0) return peer;
  // Only the addresses that our own proxies wrote count: they are the last ones.
  const forwarded = [request.headers["x-forwarded-for"] ?? []].flat().join(",").split(",");
  const address = forwarded.at(-trustedProxies)?.trim() ?? "";
  return isIP(address) === 0 ? peer : address;
}

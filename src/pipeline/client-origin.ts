import { randomUUID } from "node:crypto";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { type ContextValues, createContextKey, createContextValues } from "@connectrpc/connect";
import ipaddr from "ipaddr.js";
import type { TraceHeaders } from "../shared/tracing.ts";
import { isTracecode, tracecodeHeader, tracecodeOf } from "./tracedata.ts";

export type Request = IncomingMessage | Http2ServerRequest;
export type Response = ServerResponse | Http2ServerResponse;

/** The origin of a request, which every transport reads before the message. */
export interface Origin {
  /** The caller's network address. */
  readonly address: string;
  /** The caller's tracecode, or a new one. */
  readonly code: string;
  /** Whether the caller sent an invalid tracecode. */
  readonly codeRefused: boolean;
  /** The Authorization header; empty when it is missing. */
  readonly authorization: string;
  /** The headers, for the trace of the caller. */
  readonly traceHeaders: TraceHeaders;
  /** The HTTP/2 session or the HTTP/1.1 socket of the request. */
  readonly connection: object | undefined;
}

const unknown: Origin = {
  address: "",
  code: "00000000-0000-0000-0000-000000000000",
  codeRefused: false,
  authorization: "",
  traceHeaders: {},
  connection: undefined,
};

/** How a handler context carries the origin. */
export const originKey = createContextKey(unknown, { description: "where the request comes from" });

/**
 * Reads the origin of a request from its headers.
 * @param peer the address of the other end of the connection
 * @param trustedProxies how many proxies stand in front; each adds one address to X-Forwarded-For
 */
export function readOrigin(
  headers: IncomingHttpHeaders,
  peer: string,
  trustedProxies: number,
  connection?: object,
): Origin {
  const header = headers[tracecodeHeader];
  return {
    address: trustedProxies === 0 ? peer : addressOf(headers, peer, trustedProxies),
    code: tracecodeOf(header),
    codeRefused: header !== undefined && !isTracecode(header),
    authorization: headers.authorization ?? "",
    traceHeaders: headers,
    connection,
  };
}

/**
 * Headers of every answer, whatever the transport and the status: no cache keeps it, and no browser guesses its type. A
 * public file may say how long it can be kept.
 */
export const answerHeaders = { "cache-control": "no-store", "x-content-type-options": "nosniff" } as const;

const answerHeaderEntries = Object.entries(answerHeaders);

/**
 * Reads the origin of a request into context values and sets the headers of every response. It runs once, before any
 * transport, so that responses without a handler have the tracecode too.
 */
export function receiveRequest(request: Request, response: Response, trustedProxies: number): ContextValues {
  const connection = "stream" in request ? request.stream.session : request.socket;
  const origin = readOrigin(request.headers, request.socket?.remoteAddress ?? "", trustedProxies, connection);
  response.setHeader(tracecodeHeader, origin.code);
  for (const [name, value] of answerHeaderEntries) response.setHeader(name, value);
  // A request as it is sent to a proxy names the server too, and is to be served like any other (RFC 9112, 3.2.2).
  if (request.url?.startsWith("/") === false) request.url = request.url.replace(/^https?:\/\/[^/?#]*(?=[/?])/i, "");
  return originValues(origin);
}

/** Returns the origin in context values; a new one when there was no valid request. */
export function originOf(values: ContextValues | undefined): Origin {
  return values?.get(originKey) ?? { ...unknown, code: randomUUID() };
}

/** The origin as a handler context carries it. */
export function originValues(origin: Origin): ContextValues {
  return createContextValues().set(originKey, origin);
}

function addressOf(headers: IncomingHttpHeaders, peer: string, trustedProxies: number): string {
  // Only the addresses that our own proxies wrote count: they are the last ones. Empty elements count as absent.
  const elements = [headers["x-forwarded-for"] ?? []].flat().join(",").split(",");
  const forwarded = elements.map((element) => element.trim()).filter((element) => element !== "");
  return readAddress(forwarded.at(-trustedProxies) ?? "") ?? peer;
}

/** Proxies write an address alone, or with a port (Azure), in brackets, or in quotes as Forwarded has it (RFC 7239). */
function readAddress(element: string): string | undefined {
  const text = element.replace(/^"(.*)"$/, "$1");
  const [, bracketed, withPort] = /^(?:\[([^\]]*)\](?::\d+)?|([\d.]+):\d+)$/.exec(text) ?? [];
  const address = bracketed ?? withPort ?? text;
  if (!ipaddr.IPv6.isValid(address) && !ipaddr.IPv4.isValidFourPartDecimal(address)) return undefined;
  // An IPv4-mapped IPv6 address is the same caller as its IPv4 address.
  return ipaddr.process(address).toString();
}

import type { Socket } from "node:net";
import type { Request, Response } from "../pipeline/client-origin.ts";
import { requestTimeoutMs } from "../shared/time-limits.ts";

/** One version of HTTP, spoken on connections that somebody else accepts. */
export interface ProtocolServer {
  /** Takes over a connection, together with what was read of it and put back. */
  accept(socket: Socket): void;
  /** Ends idle connections now, and busy ones as soon as their running calls are answered. */
  drain(): void;
  /** Lets go of what the server holds beside its connections. */
  close(): void;
}

export type RequestListener = (request: Request, response: Response) => void;

/** What one connection may ask for, and how long it may take. */
export interface ConnectionLimits {
  /** How long a client may take for its TLS handshake, for telling its protocol, and for a request's headers. */
  readonly headersTimeoutMs: number;
  /** How long a client may take to send a whole request over HTTP/1.1. Over HTTP/2 the call's deadline says that. */
  readonly requestTimeoutMs: number;
  /** How long an HTTP/1.1 client may go on to send a body after it has its answer. */
  readonly lingerTimeoutMs: number;
  /** How long an HTTP/1.1 connection stays open between two requests. */
  readonly keepAliveTimeoutMs: number;
  /** How long an HTTP/2 connection stays open without a call. One with an open call stays, however quiet it is. */
  readonly sessionIdleTimeoutMs: number;
  /** The headers of one request together. */
  readonly maxHeaderBytes: number;
  /** Calls that one HTTP/2 connection may have open: a caller of gRPC puts all its calls on one. */
  readonly maxConcurrentStreams: number;
  /** What one HTTP/2 connection may make the server keep, beyond which its new calls are refused. */
  readonly maxSessionMegabytes: number;
}

export const defaultLimits: ConnectionLimits = {
  headersTimeoutMs: 10_000,
  // Long enough for the largest upload over a slow line; the doors end the wait for what stands still.
  requestTimeoutMs,
  lingerTimeoutMs: 10_000,
  // Longer than the 60 seconds of the usual load balancers: they must be the ones to close.
  keepAliveTimeoutMs: 65_000,
  sessionIdleTimeoutMs: 300_000,
  maxHeaderBytes: 16_384,
  // Windows are the default, 65,535 bytes for a call. A call of a caller who is not authenticated is refused after 16 KiB
  // of body, so 10,000 such calls hold at most 160 MB. 64 KiB in flight carry an upload at 3 MB a second over a line of
  // 20 ms; a larger window would raise what streams hold that stand still.
  maxConcurrentStreams: 1000,
  // Answers that are not read yet count: 1,000 calls with 30,000 bytes each. With the 10 MB of Node's default, such a
  // connection refused calls after 352 answers and then ended; with 16 MB after 690; with 24 MB all were answered.
  maxSessionMegabytes: 32,
};

import type { Socket } from "node:net";
import { requestTimeoutMs } from "../config.ts";
import type { Request, Response } from "../pipeline/client-origin.ts";

/** Serves one version of HTTP on connections that the listener has accepted. */
export interface ProtocolServer {
  /** Takes over a connection. Bytes that were read have been put back with unshift. */
  accept(socket: Socket): void;
  /** Closes idle connections now, and busy ones once their calls have finished. */
  drain(): void;
  /** Releases the server's timers. It does not close connections. */
  close(): void;
}

export type RequestListener = (request: Request, response: Response) => void;

/** Limits of one connection. */
export interface ConnectionLimits {
  /** How long a client may take for the TLS handshake, for its first bytes, and for the headers of a request. */
  readonly headersTimeoutMs: number;
  /** How long a client may take to send a whole HTTP/1.1 request. Over HTTP/2 the deadline of the call applies. */
  readonly requestTimeoutMs: number;
  /** How long an HTTP/1.1 client may keep sending a body after it has its response. */
  readonly lingerTimeoutMs: number;
  /** How long an HTTP/1.1 connection may be idle between two requests. */
  readonly keepAliveTimeoutMs: number;
  /** How long an HTTP/2 connection may be open without a call. */
  readonly sessionIdleTimeoutMs: number;
  /**
   * The age at which a connection takes no further calls, so that clients connect again and spread over the replicas.
   * Each connection varies it by a tenth. 0: no limit.
   */
  readonly maxConnectionAgeMs: number;
  /** How long an HTTP/2 client may send no byte, not even the answer to a PING. The server sends one after half of it. */
  readonly silenceTimeoutMs: number;
  /** All headers of one request. */
  readonly maxHeaderBytes: number;
  /** Open calls per HTTP/2 connection. A gRPC client sends all its calls over one connection. */
  readonly maxConcurrentStreams: number;
  /** Memory that the server keeps for one HTTP/2 connection; beyond it, new calls are refused. */
  readonly maxSessionMegabytes: number;
}

export const defaultLimits: ConnectionLimits = {
  headersTimeoutMs: 10_000,
  // Long enough for the largest upload over a slow line. Stalled bodies have a timeout of their own.
  requestTimeoutMs,
  lingerTimeoutMs: 10_000,
  // Longer than the usual 60 s of load balancers, so that the load balancer closes first.
  keepAliveTimeoutMs: 65_000,
  sessionIdleTimeoutMs: 300_000,
  maxConnectionAgeMs: 0,
  // The limit equals that of an unauthenticated call. A client that reads nothing for so long has stopped.
  silenceTimeoutMs: 120_000,
  maxHeaderBytes: 16_384,
  // The flow-control window is the default, 65,535 bytes per call. An unauthenticated call is refused after 16 KiB of
  // body, so 10,000 of them hold at most 160 MB. 64 KiB in flight carry an upload at 3 MB/s with 20 ms of latency. A
  // larger window would raise the memory that stalled streams hold.
  maxConcurrentStreams: 1000,
  // Answers that are not read yet count: 1,000 calls with 30,000 bytes each. With the 10 MB of Node's default, such a
  // connection refused calls after 352 answers and then ended; with 16 MB after 690; with 24 MB all were answered.
  maxSessionMegabytes: 32,
};

/** When a connection that opens now reaches its maximum age, by performance.now(). Connections do not end all at once. */
export function drawConnectionEnd(maxAgeMs: number): number {
  if (maxAgeMs === 0) return Number.POSITIVE_INFINITY;
  return performance.now() + maxAgeMs * (0.9 + Math.random() * 0.2);
}

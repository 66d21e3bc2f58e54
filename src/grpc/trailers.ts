import type { OutgoingHttpHeaders } from "node:http2";
import type { ConnectError } from "@connectrpc/connect";
import { grpcStatusOk, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";

/**
 * How a call has ended, as gRPC tells it: an error by its code, its text, its details, and its metadata beside them.
 * @param given what the handler wants to be sent after its answer
 */
export function toTrailers(given: Headers | undefined, error: ConnectError | undefined): OutgoingHttpHeaders {
  // Most calls end well, and have nothing to add.
  if (given === undefined && error === undefined) return { "grpc-status": grpcStatusOk };
  return toNodeHeaders(setTrailerStatus(new Headers(given), error));
}

/** Without what belongs to the connection: Node throws at it, and for trailers it does so where nobody can catch it. */
export function toNodeHeaders(headers: Headers): OutgoingHttpHeaders {
  const result: OutgoingHttpHeaders = {};
  for (const [name, value] of headers) if (!ofConnection.has(name)) result[name] = value;
  const cookies = headers.getSetCookie();
  if (cookies.length > 0) result["set-cookie"] = cookies;
  return result;
}

/** What Node refuses to send over HTTP/2. */
const ofConnection: ReadonlySet<string> = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
]);

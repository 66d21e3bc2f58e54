import type { OutgoingHttpHeaders } from "node:http2";
import type { ConnectError } from "@connectrpc/connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";

/** An error as gRPC tells it: its code, its text, its details, and its metadata beside them. */
export function toTrailers(error: ConnectError): OutgoingHttpHeaders {
  return toNodeHeaders(setTrailerStatus(new Headers(), error));
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

import type { IncomingHttpHeaders } from "node:http";

/** The headers that count for a method: Range counts for GET alone (RFC 9110, 14.2). */
export function headersFor(method: string, headers: IncomingHttpHeaders): IncomingHttpHeaders {
  if (method === "GET" || headers.range === undefined) return headers;
  const { range: _ignored, ...others } = headers;
  return others;
}

import type { IncomingHttpHeaders } from "node:http";

/** The headers that count for a method: Range counts for GET alone (RFC 9110, 14.2). */
export function headersFor(method: string, headers: IncomingHttpHeaders): IncomingHttpHeaders {
  if (method === "GET" || headers.range === undefined) return headers;
  const { range: _ignored, ...others } = headers;
  return others;
}

/** Whether If-None-Match names the ETag of an answer, by weak comparison: then 304 is the answer (RFC 9110, 13.1.2). */
export function isUnchanged(request: Headers, answer: Headers): boolean {
  const etag = answer.get("etag");
  const condition = request.get("if-none-match")?.trim();
  if (etag === null || condition === undefined) return false;
  const known: readonly string[] = condition.match(/"[^"]*"/g) ?? [];
  return condition === "*" || known.includes(etag.replace(/^W\//, ""));
}

/** How the conditions of a request evaluate: `met`, `unchanged` (304) or `failed` (412). */
export type Precondition = "met" | "unchanged" | "failed";

/**
 * Evaluates the conditions of a GET or HEAD against the ETag of its response, in the order of RFC 9110, 13.2.2. If-Match
 * uses strong comparison: "failed" when it does not name the ETag. If-None-Match uses weak comparison: "unchanged" when
 * it names the ETag. Range applies only when the result is "met". Without an ETag the result is "met".
 */
export function preconditionOf(request: Headers, etag: string | null): Precondition {
  if (etag === null) return "met";
  const match = request.get("if-match");
  // A weak ETag never matches by strong comparison.
  if (match !== null && !names(match, etag.startsWith("W/") ? "" : etag)) return "failed";
  const noneMatch = request.get("if-none-match");
  if (noneMatch === null) return "met";
  return names(noneMatch.replaceAll('W/"', '"'), etag.replace(/^W\//, "")) ? "unchanged" : "met";
}

/** Whether a condition is `*` or a list that contains this ETag. */
function names(condition: string, etag: string): boolean {
  const listed: readonly string[] = condition.match(/(?:W\/)?"[^"]*"/g) ?? [];
  return condition.trim() === "*" || listed.includes(etag);
}

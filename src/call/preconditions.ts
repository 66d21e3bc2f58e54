/** What the conditions of a request make of its answer. */
export type Precondition = "met" | "unchanged" | "failed";

/**
 * Compares the conditions of a GET or HEAD with the ETag of its answer, in the order of RFC 9110, 13.2.2: If-Match, by
 * strong comparison, is "failed" where it does not hold (412); If-None-Match, by weak comparison, is "unchanged" where it
 * names the ETag (304). A Range counts only where they are "met". Without an ETag they are.
 */
export function preconditionOf(request: Headers, etag: string | null): Precondition {
  if (etag === null) return "met";
  const match = request.get("if-match");
  // A weak ETag never compares as strong.
  if (match !== null && !names(match, etag.startsWith("W/") ? "" : etag)) return "failed";
  const noneMatch = request.get("if-none-match");
  if (noneMatch === null) return "met";
  return names(noneMatch.replaceAll('W/"', '"'), etag.replace(/^W\//, "")) ? "unchanged" : "met";
}

/** Whether a condition is `*` or a list with this ETag. */
function names(condition: string, etag: string): boolean {
  const listed: readonly string[] = condition.match(/(?:W\/)?"[^"]*"/g) ?? [];
  return condition.trim() === "*" || listed.includes(etag);
}

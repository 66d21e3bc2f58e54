import { Sort_Direction } from "#gen/tollgate/v1/list_pb.js";
import type { ReadUsersRequest } from "#gen/tollgate/v1/user_pb.js";
import { invalid } from "./errors.ts";
import { requirePresent } from "./handler.ts";

/** The requested part of a list and its order. */
export interface Page {
  readonly offset: number;
  readonly limit: number;
  /** The column to sort by. */
  readonly sort: string;
  readonly direction: "asc" | "desc";
}

/**
 * Returns the page that a list request asks for.
 * @param sortable columns by field name; the first one is the default
 * @throws INVALID_REQUEST when the sort field is not sortable
 */
export function pageOf(
  request: Pick<ReadUsersRequest, "offset" | "limit" | "sortField" | "sortDirection">,
  sortable: Readonly<Record<string, string>>,
): Page {
  const fields = Object.keys(sortable);
  const field = request.sortField ?? fields[0];
  const sort = field !== undefined && Object.hasOwn(sortable, field) ? sortable[field] : undefined;
  if (sort === undefined) throw invalid({ field: "sort_field", message: `must be one of ${fields.join(", ")}` });
  const direction = request.sortDirection === Sort_Direction.DESC ? "desc" : "asc";
  return { offset: request.offset, limit: requirePresent(request.limit), sort, direction };
}

/** Returns a LIKE pattern that matches `text` anywhere. It escapes %, _ and \\. */
export function toContainsPattern(text: string): string {
  return `%${text.replaceAll(/[\\%_]/g, String.raw`\$&`)}%`;
}

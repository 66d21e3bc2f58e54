import { Sort_Direction } from "#gen/tollgate/v1/list_pb.js";
import type { ReadUsersRequest } from "#gen/tollgate/v1/user_pb.js";
import { invalid } from "./errors.ts";
import { requirePresent } from "./handler.ts";

/** Which part of a list, in which order. */
export interface Page {
  readonly offset: number;
  readonly limit: number;
  /** A column. */
  readonly sort: string;
  readonly direction: "asc" | "desc";
}

/**
 * The page that a list request asks for. A field to sort by that the listed object does not have is INVALID_ARGUMENT.
 * @param sortable columns by the name of their field; the first one is the default
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

/** A LIKE pattern that finds `text` anywhere: % and _ are letters in it. */
export function toContainsPattern(text: string): string {
  return `%${text.replaceAll(/[\\%_]/g, String.raw`\$&`)}%`;
}

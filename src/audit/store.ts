import type { Knex } from "knex";
import type { Database } from "../postgres/database.ts";
import { streamRows } from "../postgres/stream.ts";
import type { Micros } from "../shared/calendar.ts";
import type { Page } from "../shared/pagination.ts";
import { type ActionBucket, bucketsOf } from "./buckets.ts";
import { filterFirstActions } from "./matching.ts";
import type { ActionFilter } from "./selection.ts";

/** An action as it is listed. */
export interface ActionRow {
  readonly micros: Micros;
  readonly tracecode: string;
  readonly operation: string;
  readonly user_id: number;
  readonly username: string;
  readonly company_key: string;
  readonly server: string;
  readonly service: number;
  readonly method_group: number;
  readonly points: number | null;
  readonly duration_ms: number | null;
  readonly outcome: number;
  readonly resource: string | null;
  readonly address: string | null;
  readonly times: number | null;
}

const columns = [
  "tracecode",
  "operation",
  "user_id",
  "username",
  "company_key",
  "server",
  "service",
  "method_group",
  "points",
  "duration_ms",
  "outcome",
  "resource",
  "address",
  "times",
] as const;

/** Sortable columns by field name, with and without the outer field. Time comes first: it is the default. */
export const sortableActionColumns = withInner({
  "tracedata.time": "time",
  "tracedata.code": "tracecode",
  "tracedata.client": "company_key, username",
  "tracedata.server": "server",
  "tracedata.service": "service",
  "tracedata.operation": "operation",
  "statistics.points_count": "points",
  "statistics.duration": "duration_ms",
  username: "username",
  company_key: "company_key",
  method_group: "method_group",
  resource: "resource",
  outcome: "outcome",
});

/** Adds the inner name of each nested field: `tracedata.time` is also `time`. Inner names are unique. */
function withInner(fields: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(fields).flatMap(([field, column]) => [
      [field.slice(field.indexOf(".") + 1), column],
      [field, column],
    ]),
  );
}

export interface ActionsOptions {
  readonly selection: ActionFilter;
  /** The buckets of the selection. */
  readonly buckets: readonly ActionBucket[];
  readonly page: Page;
  readonly signal: AbortSignal;
}

/** Streams the rows of a page in order. */
export async function* streamActions(
  database: Database,
  { selection, buckets, page, signal }: ActionsOptions,
): AsyncGenerator<ActionRow[]> {
  const inTime = page.sort === "time";
  const part = inTime ? await partOf(database, selection, buckets, page) : { buckets, offset: page.offset };
  let { offset } = part;
  let { limit } = page;
  for (const range of merge(part.buckets, inTime ? touch : () => true)) {
    if (limit <= 0 || offset >= range.total) return;
    const rangePage = { ...page, offset, limit: Math.min(limit, range.total - offset) };
    const query = ordered(database, within(selection, range), rangePage);
    for await (const rows of streamRows<ActionRow>(database, query, { ...rangePage, signal })) yield rows;
    limit -= rangePage.limit;
    offset = 0;
  }
}

/** Up to this offset within a day, rows are skipped one by one. Past it, hours are counted. */
const maxSkippedRows = 1000;

/**
 * Returns the buckets that a page in order of time is read from, and the rows to skip in the first. Earlier buckets and
 * gaps between rare actions are skipped by their totals, so the cost of a page does not grow with the length of the log.
 */
async function partOf(database: Database, selection: ActionFilter, buckets: readonly ActionBucket[], page: Page) {
  const { direction, limit } = page;
  const sorted = direction === "asc" ? buckets : buckets.toReversed();
  const part = cut(sorted, page.offset, limit);
  const [first, ...later] = part.buckets;
  if (first === undefined || part.offset <= maxSkippedRows) return part;
  const hours = await bucketsOf(database, within(selection, first), "hour");
  return cut([...(direction === "asc" ? hours : hours.toReversed()), ...later], part.offset, limit);
}

function cut(
  buckets: readonly ActionBucket[],
  offset: number,
  limit: number,
): { buckets: ActionBucket[]; offset: number } {
  let skipped = 0;
  let taken = 0;
  const selected = buckets.filter(({ total }) => {
    if (taken === 0 && skipped + total <= offset) {
      skipped += total;
      return false;
    }
    const isWanted = skipped + taken < offset + limit;
    taken += total;
    return isWanted;
  });
  return { buckets: selected, offset: offset - skipped };
}

function touch(first: ActionBucket, second: ActionBucket): boolean {
  return first.end === second.start || second.end === first.start;
}

/** Merges adjacent buckets for which `together` is true. */
function merge(
  buckets: readonly ActionBucket[],
  together: (first: ActionBucket, second: ActionBucket) => boolean,
): ActionBucket[] {
  const merged: ActionBucket[] = [];
  for (const bucket of buckets) {
    const last = merged.at(-1);
    if (last === undefined || !together(last, bucket)) merged.push(bucket);
    else {
      merged[merged.length - 1] = {
        start: Math.min(last.start, bucket.start),
        end: Math.max(last.end, bucket.end),
        total: last.total + bucket.total,
        changes: last.changes && bucket.changes,
      };
    }
  }
  return merged;
}

function within(selection: ActionFilter, { start, end, changes }: ActionBucket): ActionFilter {
  // Administrative changes are few and have their own index.
  return { ...selection, from: start, to: end, method: { ...selection.method, ...(changes && { service: 4 }) } };
}

function ordered(
  database: Database,
  selection: ActionFilter,
  { sort, direction, offset, limit }: Page,
): Knex.QueryBuilder {
  const sorted = new Set([...sort.split(", "), "time", "tracecode", "operation", "part"]);
  const order = [...sorted].map((column) => ({ column, order: direction }));
  return filterFirstActions(database, selection, { order, offset, limit })
    .select(...columns)
    .select(database.raw("(extract(epoch from time) * 1000000)::bigint as micros"));
}

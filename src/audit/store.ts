import type { Knex } from "knex";
import type { Database } from "../postgres/database.ts";
import { streamRows } from "../postgres/stream.ts";
import type { Micros } from "../shared/calendar.ts";
import type { Page } from "../shared/pagination.ts";
import { type ActionBucket, bucketsOf } from "./buckets.ts";
import { filterActions } from "./matching.ts";
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

/** Columns by the name of their field, also where it is within another one. Time comes first: it is the default. */
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

/** `tracedata.time` is `time`, too: no two fields have one name. */
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
  /** The selection's. */
  readonly buckets: readonly ActionBucket[];
  readonly page: Page;
  readonly signal: AbortSignal;
}

/** The rows of a page, in order. */
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
    const wanted = { ...page, offset, limit: Math.min(limit, range.total - offset) };
    const query = ordered(database, within(selection, range), wanted);
    for await (const rows of streamRows<ActionRow>(database, query, { ...wanted, signal })) yield rows;
    limit -= wanted.limit;
    offset = 0;
  }
}

/** What is passed over row by row at the most, where hours are counted. */
const shortWay = 1000;

/**
 * The stretches that a page in order of time is read from, and what is left to skip in the first one. What lies before
 * is skipped by its totals, and so are the gaps between rare actions: the time that a page takes does not grow with the
 * history around it.
 */
async function partOf(database: Database, selection: ActionFilter, buckets: readonly ActionBucket[], page: Page) {
  const { direction, limit } = page;
  const sorted = direction === "asc" ? buckets : buckets.toReversed();
  const part = cut(sorted, page.offset, limit);
  const [first, ...others] = part.buckets;
  if (first === undefined || part.offset <= shortWay) return part;
  const hours = await bucketsOf(database, within(selection, first), "hour");
  return cut([...(direction === "asc" ? hours : hours.toReversed()), ...others], part.offset, limit);
}

function cut(
  buckets: readonly ActionBucket[],
  offset: number,
  limit: number,
): { buckets: ActionBucket[]; offset: number } {
  let skipped = 0;
  let taken = 0;
  const wanted = buckets.filter(({ total }) => {
    if (taken === 0 && skipped + total <= offset) {
      skipped += total;
      return false;
    }
    const isWanted = skipped + taken < offset + limit;
    taken += total;
    return isWanted;
  });
  return { buckets: wanted, offset: offset - skipped };
}

function touch(one: ActionBucket, other: ActionBucket): boolean {
  return one.end === other.start || other.end === one.start;
}

/** Neighbours as one where they belong together. */
function merge(
  buckets: readonly ActionBucket[],
  together: (one: ActionBucket, other: ActionBucket) => boolean,
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
  // Administrative changes are few, and have an index of their own.
  return { ...selection, from: start, to: end, method: { ...selection.method, ...(changes && { service: 4 }) } };
}

function ordered(
  database: Database,
  selection: ActionFilter,
  { sort, direction, offset, limit }: Page,
): Knex.QueryBuilder {
  const order = new Set([...sort.split(", "), "time", "tracecode", "operation", "part"]);
  return filterActions(database, selection)
    .select(...columns)
    .select(database.raw("(extract(epoch from time) * 1000000)::bigint as micros"))
    .orderBy([...order].map((column) => ({ column, order: direction })))
    .offset(offset)
    .limit(limit);
}

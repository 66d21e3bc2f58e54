import type { Knex } from "knex";
import type { Database } from "../postgres/database.ts";
import { dayMicros, hourMicros, type Micros, toIsoTime } from "../shared/calendar.ts";
import { filterActions } from "./matching.ts";
import type { ActionFilter } from "./selection.ts";

/** A stretch of time in which there are actions of a selection. */
export interface ActionBucket {
  /** `end` is excluded. */
  readonly start: Micros;
  readonly end: Micros;
  readonly total: number;
  /** Whether all of them are administrative changes. */
  readonly changes: boolean;
}

/** What a stretch of time is counted by: actions one by one, or kept totals of hours or days. */
interface Segment {
  readonly from: Micros;
  readonly to: Micros;
  readonly by: "action" | "hour" | "day";
}

/** Number of Outcome.Name. */
const success = 1;

/**
 * The levels of audit_total. The last two correct those of a company and of a user for what the partners of another
 * company see: what they see is added under that company, and taken away under the user's own.
 */
const levels = { all: 0, company: 1, user: 2, shownToCompany: 3, shownToCompanyOfUser: 4 };

/**
 * How many actions of a selection there are, in order of time; stretches without any are left out. Whole hours and days
 * come from kept totals, so that the time it takes grows with the period, not with the actions. A user's are kept by
 * day alone.
 * @param longest the stretches that are told at the most; a user's are days all the same
 */
export async function bucketsOf(
  database: Database,
  selection: ActionFilter,
  longest: "hour" | "day" = "day",
): Promise<ActionBucket[]> {
  const segments = segmentsOf(selection, longest);
  if (segments.length === 0) return [];
  const { outcome } = selection;
  const queries = segments.flatMap((segment) => {
    if (segment.by === "action" || (outcome !== undefined && outcome !== success)) {
      return [counted(database, selection, segment, 1)];
    }
    if (outcome === undefined) return [kept(database, selection, segment, segment.by)];
    // Totals are kept of all outcomes. Those that are no success are few, and have an index of their own.
    const others = { ...selection, outcome: "not success" as const };
    return [kept(database, selection, segment, segment.by), counted(database, others, segment, -1)];
  });
  const rows: { start: Micros; end: Micros; total: number; changes: boolean }[] = await database
    // One statement, one snapshot: nothing is counted twice that is moved to the totals meanwhile.
    .from(database.unionAll(queries).as("bucket"))
    .select("start", "end")
    .select(database.raw("sum(total)::bigint as total, bool_and(changes) as changes"))
    .groupBy("start", "end")
    .havingRaw("sum(total) > 0")
    .orderBy("start");
  return rows;
}

export function countActions(buckets: readonly ActionBucket[]): number {
  return buckets.reduce((sum, { total }) => sum + total, 0);
}

function segmentsOf(selection: ActionFilter, longest: "hour" | "day"): Segment[] {
  const { from, to } = selection;
  const byDayAlone = selection.user.username !== undefined;
  const wholeDays = longest === "day" || byDayAlone ? inner(from, to, dayMicros) : { from: to, to };
  const whole = byDayAlone ? wholeDays : inner(from, to, hourMicros);
  const segments: Segment[] =
    whole.from >= whole.to
      ? [{ from, to, by: "action" }]
      : [
          { from, to: whole.from, by: "action" },
          ...hoursAndDays(whole, wholeDays),
          { from: whole.to, to, by: "action" },
        ];
  return segments.filter((segment) => segment.from < segment.to);
}

function hoursAndDays(hours: { from: Micros; to: Micros }, days: { from: Micros; to: Micros }): Segment[] {
  if (days.from >= days.to) return [{ ...hours, by: "hour" }];
  return [
    { from: hours.from, to: days.from, by: "hour" },
    { ...days, by: "day" },
    { from: days.to, to: hours.to, by: "hour" },
  ];
}

/** What of a period is made of whole units. */
function inner(from: Micros, to: Micros, unit: Micros) {
  return { from: Math.ceil(from / unit) * unit, to: Math.floor(to / unit) * unit };
}

/** Counts actions one by one, in stretches as long as the segment's; each counts as `weight`. */
function counted(
  database: Database,
  selection: ActionFilter,
  { from, to, by }: Segment,
  weight: 1 | -1,
): Knex.QueryBuilder {
  const query = filterActions(database, { ...selection, from, to }).havingRaw("count(*) > 0");
  const counts = `count(*) * ${weight} as total, bool_and(service = 4) as changes`;
  if (by === "action") return query.select(database.raw(`?::bigint as start, ?::bigint as end, ${counts}`, [from, to]));
  const span = by === "hour" ? hourMicros : dayMicros;
  const start = `date_trunc('${by}', time, 'UTC')`;
  const micros = `(extract(epoch from ${start}) * 1000000)::bigint`;
  return query
    .select(database.raw(`${micros} as start, ${micros} + ?::bigint as end, ${counts}`, [span]))
    .groupByRaw(start);
}

function kept(
  database: Database,
  selection: ActionFilter,
  { from, to }: Segment,
  by: "hour" | "day",
): Knex.QueryBuilder {
  const span = by === "hour" ? hourMicros : dayMicros;
  const { user, company, visibleTo, method } = selection;
  const totals = totalsOf(selection).map((total) =>
    database("audit_total")
      .select("start", "service", "total")
      .where({ ...total, span: span / hourMicros, ...method })
      .whereRaw("start >= ? and start < ?", [toIsoTime(from), toIsoTime(to)]),
  );
  const pending = database
    .from(
      database.raw(
        `audit_pending, unnest(
           starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies
         ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)`,
      ),
    )
    .select(database.raw("date_trunc(?, start, 'UTC') as start", [by]), "service", "total")
    .where({ ...user, ...method })
    .whereRaw("start >= ? and start < ?", [toIsoTime(from), toIsoTime(to)]);
  if (company !== undefined) void pending.where("company_key", company);
  if (visibleTo !== undefined) void pending.whereRaw("coalesce(visible_company, company_key) = ?", [visibleTo]);

  return database
    .from(database.unionAll([...totals, pending]).as("cell"))
    .select(
      database.raw(
        `(extract(epoch from start) * 1000000)::bigint as start,
         (extract(epoch from start) * 1000000)::bigint + ?::bigint as end,
         sum(total)::bigint as total, bool_and(service = 4) as changes`,
        [span],
      ),
    )
    .groupBy("start");
}

/** The rows of audit_total that add up to a selection: the columns that each of them has, beside the method's. */
function totalsOf({ user, company, visibleTo }: ActionFilter): Record<string, string | number>[] {
  const { username, ...others } = user;
  const ofCompany = company === undefined ? {} : { company_key: company };
  if (visibleTo === undefined) {
    if (username !== undefined) return [{ level: levels.user, name: username, ...others, ...ofCompany }];
    return company === undefined ? [{ level: levels.all, name: "" }] : [{ level: levels.company, name: company }];
  }
  const own =
    username === undefined
      ? { level: levels.company, name: visibleTo }
      : { level: levels.user, name: username, company_key: visibleTo, ...others };
  const shown =
    username === undefined
      ? { level: levels.shownToCompany, name: visibleTo, ...ofCompany }
      : { level: levels.shownToCompanyOfUser, name: `${username} ${visibleTo}`, ...others, ...ofCompany };
  return company === undefined || company === visibleTo ? [own, shown] : [shown];
}

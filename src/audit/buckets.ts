import type { Knex } from "knex";
import type { Database } from "../postgres/database.ts";
import { dayMicros, hourMicros, type Micros, toIsoTime } from "../shared/calendar.ts";
import { filterActions } from "./matching.ts";
import type { ActionFilter } from "./selection.ts";

/** A period that holds actions of a selection. */
export interface ActionBucket {
  /** `end` is excluded. */
  readonly start: Micros;
  readonly end: Micros;
  readonly total: number;
  /** Whether all actions are administrative changes. */
  readonly changes: boolean;
}

/** A period and how it is counted: action by action, or from stored totals of hours or days. */
interface Segment {
  readonly from: Micros;
  readonly to: Micros;
  readonly by: "action" | "hour" | "day";
}

/** Number of Outcome.Name. */
const success = 1;

/**
 * The levels of audit_total. The last two correct the company and user levels for actions that the partners of another
 * company see: such actions are added under that company and subtracted under the user's own.
 */
const levels = { all: 0, company: 1, user: 2, shownToCompany: 3, shownToCompanyOfUser: 4 };

/**
 * Counts the actions of a selection by period, in order of time, without empty periods. Whole hours and days come from
 * stored totals, so the cost grows with the period and not with the number of actions. Totals of a user exist by day only.
 * @param longest the longest bucket; ignored for a selection of one user
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
    // Totals hold all outcomes. Actions without success are few and have their own index: subtract them.
    const failures = { ...selection, outcome: "not success" as const };
    return [kept(database, selection, segment, segment.by), counted(database, failures, segment, -1)];
  });
  const rows: { start: Micros; end: Micros; total: number; changes: boolean }[] = await database
    // One statement, one snapshot: the roll-up that runs meanwhile cannot make an action count twice.
    .from(database.unionAll(queries).as("bucket"))
    .select("start", "end")
    .select(database.raw("sum(total)::bigint as total, bool_and(changes) as changes"))
    .groupBy("start", "end")
    .havingRaw("sum(total) > 0")
    .orderBy("start");
  return rows;
}

/** Returns the number of actions in buckets. */
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

/** Returns the part of a period that consists of whole units. */
function inner(from: Micros, to: Micros, unit: Micros) {
  return { from: Math.ceil(from / unit) * unit, to: Math.floor(to / unit) * unit };
}

/** Counts actions one by one in buckets of the segment's unit. Each action counts as `weight`. */
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
      .where("start", ">=", toIsoTime(from))
      .where("start", "<", toIsoTime(to)),
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
    // A cell of usage alone counts no action.
    .where("total", ">", 0)
    .where({ ...user, ...method })
    .where("start", ">=", toIsoTime(from))
    .where("start", "<", toIsoTime(to));
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

/** Returns the conditions on audit_total, apart from the method, whose rows add up to a selection. */
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

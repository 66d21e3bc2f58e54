import type { Knex } from "knex";
import type { Database } from "../postgres/database.ts";
import { streamRows } from "../postgres/stream.ts";
import { dayAt, monthOf, toIsoDay } from "../shared/calendar.ts";
import type { Scope } from "../shared/principal.ts";
import type { StatisticsPeriod } from "./period.ts";

/** The usage of a method group by a user on a day, while in a company. */
export interface UsageRow {
  readonly user_id: number;
  readonly username: string;
  readonly company_key: string;
  /** YYYY-MM-DD */
  readonly date: string;
  /** Numbers of Service.Name and Method.Group. */
  readonly service: number;
  readonly method_group: number;
  readonly requests: number;
  readonly points: number;
  readonly unique_points: number;
}

export interface UsageSelection {
  /** The usage of a company includes users who have since left it, up to the day they left. */
  readonly scope: Scope;
  /** Undefined: all users of the scope. */
  readonly username: string | undefined;
  readonly period: StatisticsPeriod;
}

/** The earliest and the latest time zone, in hours from UTC. */
const offsets = { least: -12, most: 12 };

export interface UsageOptions {
  readonly nowMs: number;
  readonly signal: AbortSignal;
}

/**
 * Yields the usage of a period, ordered by user and then by day.
 * @throws as streamRows does
 */
export async function* streamUsage(
  database: Database,
  selection: UsageSelection,
  { nowMs, signal }: UsageOptions,
): AsyncGenerator<UsageRow[]> {
  const options = { offset: 0, limit: Number.POSITIVE_INFINITY, signal };
  let last: UsageRow | undefined;
  for await (const parts of streamRows<UsageRow>(database, selectUsage(database, selection, nowMs), options)) {
    const rows: UsageRow[] = [];
    for (const part of parts) {
      if (last !== undefined && hasSameKey(last, part)) {
        last = addUsage(last, part);
        continue;
      }
      if (last !== undefined) rows.push(last);
      last = part;
    }
    if (rows.length > 0) yield rows;
  }
  if (last !== undefined) yield [last];
}

function hasSameKey(left: UsageRow, right: UsageRow): boolean {
  return (
    left.user_id === right.user_id &&
    left.date === right.date &&
    left.service === right.service &&
    left.method_group === right.method_group &&
    left.company_key === right.company_key &&
    left.username === right.username
  );
}

function addUsage(left: UsageRow, right: UsageRow): UsageRow {
  return {
    ...left,
    requests: left.requests + right.requests,
    points: left.points + right.points,
    unique_points: left.unique_points + right.unique_points,
  };
}

/**
 * Selects the usage of a period, ordered by user and then by day. Usage that is not in `usage_day` yet has rows of its own,
 * next to the row that they are added to.
 */
export function selectUsage(
  database: Database,
  { scope, username, period }: UsageSelection,
  nowMs: number,
): Knex.QueryBuilder {
  const { from, to } = period;
  const now = new Date(nowMs).toISOString();
  // A deleted user has no time zone: UTC.
  const today = "(?::timestamp + coalesce(user_account.timezone, 0) * interval '1 hour')::date";
  const query = database("usage_part as usage")
    .leftJoin("user_account", "user_account.id", "usage.user_id")
    .select("usage.user_id", "usage.username", "usage.company_key", "service", "method_group")
    .select("date", "requests", "points", "unique_points")
    .orderBy(["usage.username", "usage.user_id", "date", "service", "method_group", "usage.company_key"]);
  if (from !== undefined) void query.where("date", ">=", from);
  else {
    // A constant bound beside each user's own: the index can use it.
    void query.where("date", ">=", toIsoDay(monthOf(dayAt(nowMs, offsets.least)).from));
    void query.whereRaw(`date >= date_trunc('month', ${today})`, [now]);
  }
  if (to !== undefined) void query.where("date", "<", to);
  else {
    void query.where("date", "<", toIsoDay(dayAt(nowMs, offsets.most)));
    void query.whereRaw(`date < ${today}`, [now]);
  }
  if (username !== undefined) void query.where("usage.username", username);
  if (scope.kind === "company") void query.where("usage.company_key", scope.companyKey);
  if (scope.kind === "self") void query.where("usage.user_id", scope.userId);
  return query;
}

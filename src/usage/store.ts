import type { Knex } from "knex";
import type { Database } from "../postgres/database.ts";
import type { Scope } from "../shared/principal.ts";
import type { StatisticsPeriod } from "./period.ts";

/** What a user has used of a method group on a day, while in a company. */
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
  /** A company's are those of its own time: who moved on takes nothing along. */
  readonly scope: Scope;
  /** Undefined: everybody. */
  readonly username: string | undefined;
  readonly period: StatisticsPeriod;
}

/** Where it is earliest and latest on earth, in hours from UTC. */
const offsets = { least: -12, most: 12 };

/** The usage of a period, each user's in one piece and in the order of its days. */
export function selectUsage(
  database: Database,
  { scope, username, period }: UsageSelection,
  nowMs: number,
): Knex.QueryBuilder {
  const { from, to } = period;
  const now = new Date(nowMs).toISOString();
  // A user who was deleted has no day of today any more: UTC's.
  const today = "(?::timestamp + coalesce(user_account.timezone, 0) * interval '1 hour')::date";
  const query = database("usage_day")
    .leftJoin("user_account", "user_account.id", "usage_day.user_id")
    .select("usage_day.user_id", "usage_day.username", "usage_day.company_key", "service", "method_group")
    .select("requests", "points", "unique_points")
    .select({ date: database.raw("date::text") })
    .orderBy(["usage_day.username", "usage_day.user_id", "date", "service", "method_group", "usage_day.company_key"]);
  if (from !== undefined) void query.where("date", ">=", from);
  else {
    void query.where("date", ">=", monthAt(nowMs, offsets.least));
    void query.whereRaw(`date >= date_trunc('month', ${today})`, [now]);
  }
  if (to !== undefined) void query.where("date", "<", to);
  else {
    void query.where("date", "<", dayAt(nowMs, offsets.most));
    void query.whereRaw(`date < ${today}`, [now]);
  }
  if (username !== undefined) void query.where("usage_day.username", username);
  if (scope.kind === "company") void query.where("usage_day.company_key", scope.companyKey);
  if (scope.kind === "self") void query.where("usage_day.user_id", scope.userId);
  return query;
}

/** What the index can look for, before each user's own day is known. */
function dayAt(nowMs: number, timezone: number): string {
  return new Date(nowMs + timezone * 3_600_000).toISOString().slice(0, 10);
}

function monthAt(nowMs: number, timezone: number): string {
  return `${dayAt(nowMs, timezone).slice(0, 7)}-01`;
}

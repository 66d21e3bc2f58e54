import { columnOf, textColumnOf } from "../../postgres/columns.ts";
import type { Transaction } from "../../postgres/database.ts";
import { defineStatements, keepPlan, queryRows } from "../../postgres/statements.ts";
import type { DayLimits } from "../../shared/alerts.ts";
import { toIsoDay } from "../../shared/calendar.ts";
import { dayKeyOf, type LedgerEntry, stateNumbers } from "./entry.ts";
import { lateAfterDays } from "./read.ts";

/** A lease that is settled in the ledger. */
export interface Settlement {
  readonly points: number;
  /** When the lease was granted that was settled: an operation may have been granted again since. */
  readonly grantedMs: number;
}

/** The limits of settled entries, for alerts. */
export type LimitsByEntry = ReadonlyMap<LedgerEntry, DayLimits>;
export const noLimits: LimitsByEntry = new Map();

/** The caller and the user of a lease at its grant. Both may have changed since. */
export interface Kept {
  readonly key: string;
  readonly username: string;
  readonly companyKey: string;
  readonly tracecode: string;
  readonly holder: string;
}

/** The charged points of a day after putLeases, and those of the other days of its window before it. */
interface Sums {
  readonly dayPoints: number;
  readonly otherDayPoints: number;
}

/** A row of a lease has names, a row of a day has sums. */
type PutRow = { readonly [Name in keyof (Kept & Sums)]: (Kept & Sums)[Name] | null } & Pick<Kept, "key">;

/**
 * Inserts leases or advances their state, never back. Adds the points of settled leases to the sums of their day, and
 * notes the days of leases that run long. Returns the leases that this call changed, by their keys, and the sums of the days
 * that have limits. A settled lease does not change. A later grant replaces a released grant of its operation.
 */
export async function putLeases(transaction: Transaction, entries: readonly LedgerEntry[], limits = noLimits) {
  const ends = entries.map(({ end }) => (end.state === "settled" ? end : undefined));
  const days = daysOf(limits);
  const rows = await queryRows<PutRow>(transaction, sql.putLeases, [
    columnOf(entries, ({ meter }) => meter.userId),
    columnOf(entries, ({ meter }) => meter.service),
    columnOf(entries, ({ meter }) => meter.methodGroup),
    columnOf(entries, ({ day }) => day),
    columnOf(entries, ({ operationId }) => operationId),
    textColumnOf(entries, ({ username }) => username),
    textColumnOf(entries, ({ companyKey }) => companyKey),
    columnOf(entries, ({ timezone }) => timezone),
    columnOf(entries, ({ points }) => points),
    columnOf(entries, ({ grantedMs }) => grantedMs / 1000),
    columnOf(entries, ({ expireMs }) => expireMs / 1000),
    columnOf(entries, ({ end }) => stateNumbers[end.state]),
    columnOf(entries, ({ end }) => (end.state === "granted" ? null : end.endedMs / 1000)),
    columnOf(entries, ({ tracecode }) => tracecode),
    textColumnOf(entries, ({ holder }) => holder),
    columnOf(entries, ({ degraded }) => degraded),
    columnOf(ends, (end) => end?.points),
    columnOf(ends, (end) => end?.durationMs),
    columnOf(ends, (end) => end?.outcome),
    columnOf(entries, ({ isHolderKnown }) => isHolderKnown),
    columnOf(days, ({ entry: { meter } }) => meter.userId),
    columnOf(days, ({ entry: { meter } }) => meter.service),
    columnOf(days, ({ entry: { meter } }) => meter.methodGroup),
    columnOf(days, ({ entry: { day } }) => day),
    columnOf(days, ({ window }) => window?.from),
    columnOf(days, ({ window }) => window?.to),
  ]);
  const raised = new Map<string, Kept>();
  const sums = new Map<string, Sums>();
  for (const row of rows) {
    if (isKept(row)) raised.set(row.key, row);
    else sums.set(row.key, add(sums.get(row.key), row));
  }
  return { raised, sums };
}

function isKept(row: PutRow): row is Kept & PutRow {
  return row.username !== null;
}

function add(sums: Sums | undefined, { dayPoints, otherDayPoints }: PutRow): Sums {
  return {
    dayPoints: (sums?.dayPoints ?? 0) + (dayPoints ?? 0),
    otherDayPoints: (sums?.otherDayPoints ?? 0) + (otherDayPoints ?? 0),
  };
}

/** Returns the days of method groups that have limits, each once, with the window whose points an alert needs. */
function daysOf(limits: LimitsByEntry) {
  const days = new Map<string, { entry: LedgerEntry; window: DayLimits["window"] | undefined }>();
  for (const [entry, { pointsPerDateWindow, window }] of limits) {
    days.set(dayKeyOf(entry), { entry, window: pointsPerDateWindow === undefined ? undefined : window });
  }
  return [...days.values()];
}

/**
 * Conditions of putLeases. In fail-open, two servers may each grant one operation. A release at one of them ends each grant
 * that was made before it, whichever the ledger gets first.
 */
const isEndedBefore =
  "((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)";
const endsLater =
  "((kept.degraded or excluded.degraded) and excluded.state = 1 and kept.granted_at < excluded.ended_at)";
/** The entry is of a later grant than the row, which is not settled. */
const isLater = `(kept.state < 2 and excluded.granted_at > kept.granted_at and not ${isEndedBefore})`;
/** A later grant replaces the values of an earlier one. */
const ofLater = (column: string) => `${column} = case when ${isLater} then excluded.${column} else kept.${column} end`;
/** The holder of a later grant replaces that of an earlier one if the entry knows it. Rare, so it is looked up. */
const ofLaterHolder = (column: string) => `${column} = case when not ${isLater} then kept.${column}
       when (select is_holder_known from entry where (user_id, service, method_group, day, operation_id)
         = (excluded.user_id, excluded.service, excluded.method_group, excluded.day, excluded.operation_id))
       then excluded.${column} else kept.${column} end`;

/** How leases were settled that a batch did not change, by their keys. */
export async function findSettlements(transaction: Transaction, entries: readonly LedgerEntry[]) {
  if (entries.length === 0) return new Map<string, Settlement>();
  const rows = await queryRows<Settlement & { key: string }>(transaction, sql.findSettlements, [
    columnOf(entries, ({ meter }) => meter.userId),
    columnOf(entries, ({ meter }) => meter.service),
    columnOf(entries, ({ meter }) => meter.methodGroup),
    columnOf(entries, ({ day }) => day),
    columnOf(entries, ({ operationId }) => operationId),
    [...new Set(entries.map(({ day }) => toIsoDay(day)))],
  ]);
  return new Map(
    rows.map(({ key, points, grantedMs }) => [key, { points, grantedMs: Math.round(grantedMs) }] as const),
  );
}

const sql = defineStatements("ledger-write", {
  putLeases: keepPlan(`
    with entry as materialized (
      select user_id, service, method_group, date '1970-01-01' + day as day, operation_id, username, company_key, timezone,
        points, to_timestamp(granted) as granted_at, to_timestamp(expire) as expire_at, state,
        to_timestamp(ended) as ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome, is_holder_known
      from unnest(
        $1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::uuid[], $6::text[], $7::text[], $8::smallint[],
        $9::bigint[], $10::float8[], $11::float8[], $12::smallint[], $13::float8[], $14::uuid[], $15::text[], $16::boolean[],
        $17::bigint[], $18::bigint[], $19::smallint[], $20::boolean[]
      ) as entry (
        user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted, expire,
        state, ended, tracecode, holder, degraded, settled_points, duration_ms, outcome, is_holder_known
      ),
      -- The trigger that adds up days for servers of the last release leaves this to us.
      set_config('tollgate.adds_charged_days', 'on', true)
    ),
    put as (
      insert into lease as kept (
        user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
        expire_at, state, ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome
      )
      select user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
        expire_at, state, ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome
      from entry
      on conflict (user_id, service, method_group, day, operation_id) do update set
        ${["timezone", "points", "granted_at"].map(ofLater).join(", ")},
        ${["username", "company_key", "tracecode", "holder"].map(ofLaterHolder).join(", ")},
        expire_at = case when ${isLater} then excluded.expire_at
          when excluded.granted_at = kept.granted_at then greatest(kept.expire_at, excluded.expire_at)
          else kept.expire_at end,
        state = case when ${isLater} then excluded.state
          when excluded.granted_at = kept.granted_at or excluded.state = 2 or ${endsLater} then greatest(kept.state, excluded.state)
          else kept.state end,
        ended_at = case when ${isLater} or (excluded.state = 2 and kept.state < 2) then excluded.ended_at
          else coalesce(kept.ended_at, excluded.ended_at) end,
        degraded = kept.degraded or excluded.degraded,
        settled_points = coalesce(kept.settled_points, excluded.settled_points),
        duration_ms = coalesce(kept.duration_ms, excluded.duration_ms),
        outcome = coalesce(kept.outcome, excluded.outcome)
      where (excluded.state < 2 and excluded.degraded and not kept.degraded)
        or (kept.state < 2 and (
          excluded.state = 2 or ${isLater} or (${endsLater} and kept.state = 0) or (
            excluded.granted_at = kept.granted_at
            and (excluded.state > kept.state or excluded.expire_at > kept.expire_at)
          )
        ))
      returning user_id, service, method_group, day, operation_id, username, company_key, tracecode, holder, state
    ),
    changed as (
      select put.*, entry.state = 2 as is_settled, entry.settled_points, entry.timezone
      from put join entry using (user_id, service, method_group, day, operation_id)
    ),
    added as (
      insert into charged_day as kept (user_id, service, method_group, day, timezone, points)
      select user_id, service, method_group, day, min(timezone), sum(settled_points)
      from changed where is_settled group by 1, 2, 3, 4
      -- In key order: two writers must not deadlock.
      order by 1, 2, 3, 4
      on conflict (user_id, service, method_group, day) do update set
        points = kept.points + excluded.points, timezone = least(kept.timezone, excluded.timezone)
      returning user_id, service, method_group, day, points
    ),
    late as (
      insert into late_day as kept (user_id, service, method_group, day, until)
      select user_id, service, method_group, day, max(greatest(expire_at, ended_at))
      from entry where greatest(expire_at, ended_at) > (day + ${lateAfterDays})::timestamp at time zone 'UTC'
      group by 1, 2, 3, 4
      order by 1, 2, 3, 4
      on conflict (user_id, service, method_group, day) do update set until = greatest(kept.until, excluded.until)
    )
    select concat_ws(' ', user_id, service, method_group, day - date '1970-01-01', operation_id) as key, username,
      company_key as "companyKey", tracecode, holder, null::bigint as "dayPoints", null::bigint as "otherDayPoints"
    from changed
    -- The sums that alerts need, as rows of their own: the planner takes the parts above for one row each, and would join
    -- them in nested loops.
    union all
    select concat_ws(' ', user_id, service, method_group, day - date '1970-01-01'), null, null, null, null, points, null
    from added where cardinality($21::bigint[]) > 0
    union all
    select concat_ws(' ', user_id, service, method_group, day), null, null, null, null, null, (
        select coalesce(sum(other.points), 0)::bigint from charged_day as other
        where other.user_id = charge.user_id and other.service = charge.service
          and other.method_group = charge.method_group and other.day >= date '1970-01-01' + window_from
          and other.day < date '1970-01-01' + window_to and other.day <> date '1970-01-01' + charge.day
      )
    from unnest($21::bigint[], $22::smallint[], $23::smallint[], $24::integer[], $25::integer[], $26::integer[])
      as charge (user_id, service, method_group, day, window_from, window_to)`),
  findSettlements: `
    select concat_ws(' ', user_id, service, method_group, day - date '1970-01-01', operation_id) as key,
      settled_points as points, (extract(epoch from granted_at) * 1000)::float8 as "grantedMs"
    from lease join unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::uuid[])
      as entry (user_id, service, method_group, of_day, operation_id)
      using (user_id, service, method_group, operation_id)
    -- The days once more: they name the partitions.
    where day = date '1970-01-01' + of_day and state = 2 and day = any($6::date[])`,
});

import type { Database } from "../../postgres/database.ts";
import { defineStatements, queryRows } from "../../postgres/statements.ts";
import { type Day, dayMs, hourMs } from "../../shared/calendar.ts";
import type { Lease, LeaseState, Meter, Missing, Remembered, Snapshot } from "../counters/engine.ts";
import { type Holder, toHolderText } from "./entry.ts";
import type { LeaseKey } from "./lease-id.ts";

/** A lease with its user and company at the grant. The user may be deleted. */
export interface KnownLease {
  readonly companyKey: string;
  readonly username: string;
  readonly lease: Lease;
}

/** The day, window and time of a snapshot: see Missing. */
export interface SnapshotOf extends Pick<Missing, "nowMs" | "day" | "window"> {
  /** The user's offset, in hours. */
  readonly timezone: number;
  readonly remember: Remembered;
}

interface Row {
  operation_id: string;
  day: number;
  timezone: number;
  points: number;
  granted_ms: number;
  expire_ms: number;
  ended_ms: number | null;
  state: number;
  settled_points: number | null;
  tracecode: string;
  holder: string;
  company_key: string;
}

interface SumRow {
  day: number;
  timezone: number;
  points: number;
}

/**
 * Reads the data that rebuilds the counters of a meter, as of one moment. These are leases that may be live, leases that
 * ended last, and points charged on the day and in the window. A day continues until it ends at the offset at which it was counted,
 * even if the user's offset has changed.
 */
export async function readSnapshot(database: Database, meter: Meter, of: SnapshotOf): Promise<Snapshot> {
  const { nowMs, day, window, timezone } = of;
  const { leases, sums } = await readRow(database, meter, of);
  const all = (leases ?? []).toSorted((left, right) => left.granted_ms - right.granted_ms);
  const known = sums ?? [];
  // Every lease shows that its day has begun: a released one may be settled later.
  const newest = [...known, ...all]
    .toSorted((left, right) => left.day - right.day || right.timezone - left.timezone)
    .at(-1);
  const continues = newest !== undefined && nowMs < dayEnd(newest, timezone);
  const current = continues ? { day: newest.day, timezone: newest.timezone } : { day, timezone };
  const sum = (from: Day, to: Day) =>
    known.reduce((total, charged) => (from <= charged.day && charged.day < to ? total + charged.points : total), 0);
  return {
    ...current,
    window,
    dayUsed: sum(current.day, current.day + 1),
    windowUsed: sum(window.from, window.to),
    leases: all.map(toLease),
  };
}

interface SnapshotRow {
  leases: Row[] | null;
  sums: SumRow[] | null;
  late_days: string[] | null;
}

/** Reads the snapshot. If it names late days that it did not read, it is read again with them, which is rare. */
async function readRow(database: Database, meter: Meter, of: SnapshotOf): Promise<SnapshotRow> {
  for (let lateDays: readonly string[] = []; ; ) {
    const statement = lateDays.length === 0 ? sql.readSnapshot : sql.readSnapshotWithLateDays;
    const [row] = await queryRows<SnapshotRow>(database, statement, valuesOf(meter, of, lateDays));
    if (row === undefined) throw new Error("a snapshot has one row");
    const found = row.late_days ?? [];
    if (found.every((day) => lateDays.includes(day))) return row;
    lateDays = found;
  }
}

function valuesOf(
  { userId, service, methodGroup }: Meter,
  { nowMs, day, window, remember }: SnapshotOf,
  lateDays: readonly string[],
): unknown[] {
  const rememberedFromMs = nowMs - remember.ms;
  const firstDay = Math.floor(rememberedFromMs / dayMs) - lateAfterDays + 1;
  const firstSum = Math.min(window.from, day - longestDay);
  const values = [userId, service, methodGroup, firstDay, rememberedFromMs / 1000, remember.operations, firstSum];
  return lateDays.length === 0 ? values : [...values, lateDays];
}

/** Returns the lines of EXPLAIN (ANALYZE, BUFFERS) for a snapshot. */
export async function explainSnapshot(database: Database, meter: Meter, of: SnapshotOf): Promise<string[]> {
  const explain = { ...sql.readSnapshot, text: `explain (analyze, buffers) ${sql.readSnapshot.text}` };
  const rows = await queryRows<{ "QUERY PLAN": string }>(database, explain, valuesOf(meter, of, []));
  return rows.map((row) => row["QUERY PLAN"]);
}

/** An operation may be granted again up to this many days later, while the counters remember it. */
const againDays = 3;

/** Finds a lease in the ledger. If the operation was granted again, finds the later lease. */
export async function findLease(database: Database, key: LeaseKey): Promise<KnownLease | undefined> {
  const { userId, service, methodGroup, operationId, day } = key;
  const values = [userId, service, methodGroup, operationId, day, day + againDays];
  const [row] = await queryRows<Row & { username: string }>(database, sql.findLease, values);
  if (row === undefined) return undefined;
  return { companyKey: row.company_key, username: row.username, lease: toLease(row) };
}

/** Lists the methods for which a user may have live leases, by the earlier of this server's and PostgreSQL's clock. */
export async function findMethods(database: Database, userId: number, nowMs: number) {
  const rows = await queryRows<{ service: number; method_group: number }>(database, sql.findMethods, [
    userId,
    nowMs / 1000,
  ]);
  return rows.map(({ service, method_group: methodGroup }) => ({ service, methodGroup }));
}

/** A lease that is live or ends later than this many days after its day began has a row in late_day. */
export const lateAfterDays = 3;
/** A day lasts up to 48 hours for a user who moves from UTC+12 to UTC-12 on it. By then two later days have begun. */
const longestDay = 2;

const columns = `operation_id, day - date '1970-01-01' as day, timezone, points,
  date_part('epoch', granted_at) * 1000 as granted_ms,
  date_part('epoch', expire_at) * 1000 as expire_ms,
  date_part('epoch', ended_at) * 1000 as ended_ms,
  state, settled_points, tracecode, holder, company_key`;

const ofMeter = "user_id = $1 and service = $2 and method_group = $3";

/**
 * One statement, so all parts are of one snapshot. The parts read the indexes lease_granted, lease_ended, and the keys of
 * charged_day and late_day. Days are constants at planning, so PostgreSQL prunes all other partitions.
 */
const snapshotOf = (days: string) => `
  select
    (select json_agg(found) from (
      (select ${columns} from lease
       where ${ofMeter} and ${days} and state = 0 and expire_at > to_timestamp($5))
      union all
      (select ${columns} from lease
       where ${ofMeter} and ${days} and state > 0 and ended_at > to_timestamp($5)
       order by ended_at desc limit $6)
    ) as found) as leases,
    (select json_agg(summed) from (
      select day - date '1970-01-01' as day, timezone, points from charged_day
      where ${ofMeter} and day >= date '1970-01-01' + $7::integer
    ) as summed) as sums,
    (select json_agg(day) from late_day
     where ${ofMeter} and until > to_timestamp($5) and day < date '1970-01-01' + $4::integer) as late_days`;

const isRecent = "day >= date '1970-01-01' + $4::integer";

const sql = defineStatements("ledger-read", {
  readSnapshot: snapshotOf(isRecent),
  /** A statement of its own: with a condition for an empty list, PostgreSQL would not prune partitions. */
  readSnapshotWithLateDays: snapshotOf(`(${isRecent} or day = any($8::date[]))`),
  findLease: `
    select ${columns}, username from lease
    where user_id = $1 and service = $2 and method_group = $3 and operation_id = $4
      and day between date '1970-01-01' + $5::integer and date '1970-01-01' + $6::integer
    order by granted_at desc limit 1`,
  findMethods: `
    select distinct service, method_group from lease
    where user_id = $1 and state = 0 and expire_at > least(to_timestamp($2), now())`,
});

const states: readonly LeaseState[] = ["active", "released", "settled"];

function toLease(row: Row): Lease {
  const state = states[row.state] as LeaseState;
  return {
    operationId: row.operation_id,
    day: row.day,
    timezone: row.timezone,
    points: row.points,
    state,
    grantedMs: Math.round(row.granted_ms),
    expireMs: Math.round(row.expire_ms),
    endedMs: row.ended_ms === null ? undefined : Math.round(row.ended_ms),
    settledPoints: row.settled_points ?? undefined,
    holder: state === "active" ? toHolderText(holderOf(row)) : "",
  };
}

function holderOf({ tracecode, holder: username, company_key: companyKey }: Row): Holder {
  return { tracecode, username, companyKey };
}

/** The end of the day at the offset at which it was counted or at the present one, whichever is later. */
function dayEnd({ day, timezone }: SumRow, presentTimezone: number): number {
  return (day + 1) * dayMs - Math.min(timezone, presentTimezone) * hourMs;
}

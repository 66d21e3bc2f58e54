import type { Database } from "../../storage/database.ts";
import type { Day, Lease, LeaseState, Meter, Snapshot } from "../counters/engine.ts";
import { dayMs, hourMs } from "../counters/window.ts";
import type { LeaseKey } from "../lease-id.ts";

/** What is known of a lease whose user may be gone. */
export interface KnownLease {
  readonly companyKey: string;
  readonly username: string;
  /** Hours from UTC. */
  readonly timezone: number;
  readonly lease: Lease;
}

export interface SnapshotOf {
  readonly day: Day;
  readonly window: { readonly from: Day; readonly to: Day };
  /** Hours from UTC. */
  readonly timezone: number;
}

/** Ended operations beyond that are not remembered: a retry of one of them would be charged again. */
const maxLeases = 100_000;

interface Row {
  operation_id: string;
  day: number;
  timezone: number;
  points: number;
  granted_ms: number;
  expire_ms: number;
  state: number;
  settled_points: number | null;
  tracecode: string;
  holder: string;
}

/**
 * What the ledger knows of a meter, as of one moment: the leases that may be running, those that ended within a day,
 * and the points of the day and the window. A day that has not ended at the offset at which it was counted goes on,
 * whatever the user's offset is by now.
 */
export function readSnapshot(database: Database, meter: Meter, { day, window, timezone }: SnapshotOf, nowMs: number) {
  const { userId, service, methodGroup } = meter;
  return database.transaction(
    async (transaction): Promise<Snapshot> => {
      const { rows } = await transaction.raw<{ rows: Row[] }>(
        `select ${columns} from lease
         where user_id = ? and service = ? and method_group = ? and day >= date '1970-01-01' + ?::integer
           and ((state = 0 and expire_at > to_timestamp(?)) or ended_at > to_timestamp(?))
         order by granted_at desc limit ${maxLeases}`,
        [userId, service, methodGroup, day - oldestDays, (nowMs - dayMs) / 1000, (nowMs - dayMs) / 1000],
      );
      const [newest] = rows.toSorted((one, other) => other.day - one.day);
      const goesOn = newest !== undefined && newest.day !== day && nowMs < dayEnd(newest, timezone);
      const current = goesOn ? { day: newest.day, timezone: newest.timezone } : { day, timezone };
      const usage = await transaction.raw<{ rows: { day_used: number; window_used: number }[] }>(
        `select coalesce(sum(points) filter (where day = :day), 0)::bigint as day_used,
           coalesce(sum(points) filter (where day >= :from and day < :to), 0)::bigint as window_used
         from (
           select points, date - date '1970-01-01' as day from usage_day
           where user_id = :userId and service = :service and method_group = :methodGroup
             and date >= date '1970-01-01' + least(:from, :day)::integer
         ) as used`,
        { day: current.day, from: window.from, to: window.to, userId, service, methodGroup },
      );
      const { day_used: dayUsed = 0, window_used: windowUsed = 0 } = usage.rows[0] ?? {};
      return { ...current, window, dayUsed, windowUsed, leases: rows.map(toLease) };
    },
    { isolationLevel: "repeatable read", readOnly: true },
  );
}

/** A lease as the ledger has it. */
export async function findLease(database: Database, key: LeaseKey): Promise<KnownLease | undefined> {
  const { rows } = await database.raw<{ rows: (Row & { username: string; company_key: string })[] }>(
    `select ${columns}, username, company_key from lease
     where user_id = ? and service = ? and method_group = ? and day = date '1970-01-01' + ?::integer and operation_id = ?`,
    [key.userId, key.service, key.methodGroup, key.day, key.operationId],
  );
  const [row] = rows;
  if (row === undefined) return undefined;
  return { companyKey: row.company_key, username: row.username, timezone: row.timezone, lease: toLease(row) };
}

/** The methods of which a user may have running leases. */
export async function findMethods(database: Database, userId: number, nowMs: number) {
  const { rows } = await database.raw<{ rows: { service: number; method_group: number }[] }>(
    "select distinct service, method_group from lease where user_id = ? and state = 0 and expire_at > to_timestamp(?)",
    [userId, nowMs / 1000],
  );
  return rows.map(({ service, method_group: methodGroup }) => ({ service, methodGroup }));
}

/** A lease lives a day without being renewed, and is remembered for one more: older ones need not be looked at. */
const oldestDays = 40;

const columns = `operation_id, day - date '1970-01-01' as day, timezone, points,
  (extract(epoch from granted_at) * 1000)::float8 as granted_ms,
  (extract(epoch from expire_at) * 1000)::float8 as expire_ms,
  state, settled_points, tracecode, holder`;

const states: readonly LeaseState[] = ["active", "released", "settled"];

function toLease(row: Row): Lease {
  const state = states[row.state] as LeaseState;
  return {
    operationId: row.operation_id,
    day: row.day,
    points: row.points,
    state,
    grantedMs: Math.round(row.granted_ms),
    expireMs: Math.round(row.expire_ms),
    settledPoints: row.settled_points ?? undefined,
    holder: state === "active" ? `${row.tracecode} ${row.holder}` : "",
  };
}

function dayEnd({ day, timezone }: Row, other: number): number {
  return (day + 1) * dayMs - Math.min(timezone, other) * hourMs;
}

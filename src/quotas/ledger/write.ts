import { createHash } from "node:crypto";
import { type Database, inTransaction } from "../../postgres/database.ts";
import { ensurePartitions, withPartitions } from "../../postgres/partitions.ts";
import type { AlertWriter, DayLimits } from "../../shared/alerts.ts";
import type { Micros } from "../../shared/calendar.ts";
import type { Action, ActionWriter, RecordWriter, Usage, UsageWriter } from "../../shared/records.ts";
import { chargesOf } from "./charges.ts";
import { dayKeyOf, isSettled, type LedgerEntry, leaseKeyOf, type SettledEntry } from "./entry.ts";
import { toUuid } from "./lease-id.ts";
import { findSettlements, type Kept, type LimitsByEntry, noLimits, putLeases, type Settlement } from "./lease-rows.ts";

export interface LedgerWriters {
  readonly database: Database;
  readonly actions: ActionWriter;
  readonly usage: UsageWriter;
  /** Absent when no alerts are written. */
  readonly alerts?: AlertWriter | undefined;
}

/** Leases that an administrator ends. Written in the transaction of the audit record. */
export function createLeaseWriter(database: Database): RecordWriter<LedgerEntry, LedgerEntry> {
  return {
    prepare: (entries) => ensurePartitions(database, "lease", new Set(entries.map(({ day }) => day))),
    write: async (transaction, entries) => void (await putLeases(transaction, entries)),
  };
}

/**
 * Writes entries, at most one a lease, in one transaction. Rows are only ever raised, so an entry may be written again;
 * the usage and the audit action of a lease are added by the one transaction that settles it.
 * @returns by the keys of the entries, how their leases are settled once this is committed; nothing of one that is not
 */
export async function writeEntries(
  writers: LedgerWriters,
  entries: readonly LedgerEntry[],
): Promise<ReadonlyMap<string, Settlement>> {
  return withPartitions(writers.database, () => write(writers, entries));
}

async function write({ database, actions, usage, alerts }: LedgerWriters, entries: readonly LedgerEntry[]) {
  const settled = entries.filter(isSettled);
  await ensurePartitions(database, "lease", new Set(entries.map(({ day }) => day)));
  if (settled.length > 0) {
    await usage.prepare(settled.map(({ day, end }) => ({ day, pointKeys: end.pointKeys })));
    await actions.prepare(settled.map(({ end }) => ({ timeMicros: timeOf(end) })));
  }
  const limits = alerts === undefined ? noLimits : await findLimits(alerts, settled);
  let alertCount = 0;
  const written = await inTransaction(database, async (transaction) => {
    const put = await putLeases(transaction, entries, limits);
    const { raised } = put;
    const settlements = new Map<string, Settlement>();
    const used: Usage[] = [];
    const done: Action[] = [];
    for (const entry of settled) {
      const key = leaseKeyOf(entry);
      const kept = raised.get(key);
      if (kept === undefined) continue;
      settlements.set(key, { points: entry.end.points, grantedMs: entry.grantedMs });
      used.push(toUsage(entry, kept));
      done.push(toAction(entry, kept));
    }
    if (alerts !== undefined && limits.size > 0) {
      const alertActions = await alerts.write(transaction, chargesOf(settledLeases(settled, put, limits)));
      alertCount = alertActions.length;
      done.push(...alertActions);
    }
    await usage.write(transaction, used);
    await actions.write(transaction, done);
    const unchanged = entries.filter((entry) => !raised.has(leaseKeyOf(entry)));
    for (const [key, settlement] of await findSettlements(transaction, unchanged)) settlements.set(key, settlement);
    return settlements;
  });
  if (alertCount > 0) alerts?.scheduleDelivery();
  return written;
}

type Put = Awaited<ReturnType<typeof putLeases>>;
/** Finds the limits of settled entries. Users that decide on this server are cached. */
async function findLimits(alerts: AlertWriter, settled: readonly SettledEntry[]): Promise<LimitsByEntry> {
  const limits = new Map<LedgerEntry, DayLimits>();
  await Promise.all(
    settled.map(async (entry) => {
      const { meter, username, day } = entry;
      const found = await alerts.limitsOf({ ...meter, username, day });
      if (found !== undefined) limits.set(entry, found);
    }),
  );
  return limits;
}

/** Returns the leases that this transaction has settled and that have limits. */
function settledLeases(settled: readonly SettledEntry[], { raised, sums }: Put, limits: LimitsByEntry) {
  return settled.flatMap((entry) => {
    const kept = raised.get(leaseKeyOf(entry));
    const found = limits.get(entry);
    const sum = sums.get(dayKeyOf(entry));
    if (kept === undefined || found === undefined || sum === undefined) return [];
    const { username, companyKey, tracecode } = kept;
    return [{ entry, limits: found, username, companyKey, tracecode, ...sum }];
  });
}

// Written out, not spread, here and below: this is done for every calculation there is.
function toUsage({ meter, day, end }: SettledEntry, { username, companyKey }: Kept): Usage {
  const { userId, service, methodGroup } = meter;
  return { userId, username, companyKey, service, methodGroup, day, points: end.points, pointKeys: end.pointKeys };
}

function toAction(entry: SettledEntry, { username, companyKey, tracecode, holder }: Kept): Action {
  const { meter, end } = entry;
  const { operation, server = holder, points, durationMs, outcome } = end;
  return {
    userId: meter.userId,
    username,
    companyKey,
    service: meter.service,
    methodGroup: meter.methodGroup,
    timeMicros: timeOf(end),
    tracecode,
    operation,
    part: partOf(entry),
    server,
    points,
    durationMs,
    outcome,
  };
}

/**
 * Distinguishes the actions of leases with equal time, tracecode and operation: a UUID from the lease's key, equal to
 * `md5(key)::uuid` in SQL.
 */
function partOf(entry: LedgerEntry): string {
  return toUuid(createHash("md5").update(leaseKeyOf(entry)).digest("hex"));
}

function timeOf({ endedMs }: SettledEntry["end"]): Micros {
  return Math.round(endedMs * 1000);
}

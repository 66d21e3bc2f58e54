import { lockDateWindows } from "../../postgres/advisory-locks.ts";
import { type Database, inTransaction, retryConflicts } from "../../postgres/database.ts";
import { ensurePartitions, withPartitions } from "../../postgres/partitions.ts";
import type { AlertWriter, DayLimits } from "../../shared/alerts.ts";
import type { Micros } from "../../shared/calendar.ts";
import type { ActionWriter, RecordWriter, UsageWriter } from "../../shared/records.ts";
import { maxPoints } from "../../usage/writer.ts";
import { chargesOf } from "./charges.ts";
import { dayKeyOf, isSettled, type LedgerEntry, type SettledEntry } from "./entry.ts";
import { findSettlements, type LimitsByEntry, type Put, putLeases, type Settlement } from "./lease-rows.ts";

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
 * Writes entries, at most one a lease, in one transaction. An entry may be written again: the state of a row only advances,
 * and the transaction that settles a lease adds its usage and its audit action.
 * @returns the settlements of the leases that are settled after the commit, also by earlier entries
 */
export async function writeEntries(
  writers: LedgerWriters,
  entries: readonly LedgerEntry[],
): Promise<ReadonlyMap<LedgerEntry, Settlement>> {
  return withPartitions(writers.database, () => write(writers, entries));
}

async function write(writers: LedgerWriters, entries: readonly LedgerEntry[]) {
  const { database, actions, usage, alerts } = writers;
  const settled = entries.filter(isSettled);
  await ensurePartitions(database, "lease", new Set(entries.map(({ day }) => day)));
  if (settled.length > 0) {
    await usage.prepare(settled.map(({ day, end }) => ({ day, pointKeys: end.pointKeys })));
    await actions.prepare(settled.map(({ end }) => ({ timeMicros: timeOf(end) })));
  }
  const limits = alerts === undefined ? noLimits : await findLimits(alerts, settled);
  const pointCount = settled.reduce((sum, { end }) => sum + end.pointKeys.length, 0);
  // Nearly always one statement, which is a transaction of its own.
  const { unchanged } =
    limits.size === 0 && pointCount <= maxPoints
      ? await retryConflicts(() => putLeases(database, entries, { sendsActions: actions.hasSink }))
      : await writeWithMore(writers, { entries, settled, limits, countsPoints: pointCount <= maxPoints });
  const settlements = new Map<LedgerEntry, Settlement>();
  for (const entry of settled) {
    if (!unchanged.has(entry)) settlements.set(entry, { points: entry.end.points, grantedMs: entry.grantedMs });
  }
  if (settlements.size > 0) actions.scheduleRollUp();
  for (const [entry, settlement] of await findSettlements(database, [...unchanged])) settlements.set(entry, settlement);
  return settlements;
}

const noLimits: LimitsByEntry = new Map();

interface Batch {
  readonly entries: readonly LedgerEntry[];
  readonly settled: readonly SettledEntry[];
  readonly limits: LimitsByEntry;
  readonly countsPoints: boolean;
}

/** Writes a batch that may reach the threshold of an alert, or that has more points than one statement can write in time. */
async function writeWithMore(
  { database, actions, usage, alerts }: LedgerWriters,
  { entries, settled, limits, countsPoints }: Batch,
): Promise<Put> {
  let alertCount = 0;
  const windows = numbersOfWindows(limits);
  const written = await inTransaction(database, async (transaction) => {
    // Two servers that settle leases of different days would each miss the points of the other, and the alert.
    if (windows.length > 0) await lockDateWindows(transaction, windows);
    const put = await putLeases(transaction, entries, {
      limits,
      returnsSettled: true,
      countsPoints,
      sendsActions: actions.hasSink,
    });
    if (!countsPoints) {
      const usages = settled.flatMap((entry) => usagesOf(entry, put));
      await actions.addUniquePoints(transaction, await usage.countPoints(transaction, usages));
    }
    if (alerts === undefined || limits.size === 0) return put;
    const alertActions = await alerts.write(transaction, chargesOf(settledLeases(settled, put, limits)));
    await actions.write(transaction, alertActions);
    alertCount = alertActions.length;
    return put;
  });
  if (alertCount > 0) alerts?.scheduleDelivery();
  return written;
}

/** Returns the numbers of the meters whose date window has a limit, for their locks. */
function numbersOfWindows(limits: LimitsByEntry): number[] {
  const limited = [...limits].filter(([, { pointsPerDateWindow }]) => pointsPerDateWindow !== undefined);
  const numbers = limited.map(([{ meter }]) => (meter.userId * 1024 + meter.service * 32 + meter.methodGroup) | 0);
  return [...new Set(numbers)].toSorted((left, right) => left - right);
}

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
function settledLeases(settled: readonly SettledEntry[], put: Put, limits: LimitsByEntry) {
  return settled.flatMap((entry) => {
    const kept = put.settled.get(entry);
    const found = limits.get(entry);
    const sum = put.sums.get(dayKeyOf(entry));
    if (kept === undefined || found === undefined || sum === undefined) return [];
    return [{ entry, limits: found, ...kept, ...sum }];
  });
}

/** Returns the usage of an entry that this transaction has settled. */
function usagesOf(entry: SettledEntry, put: Put) {
  const { meter, day, end } = entry;
  const kept = put.settled.get(entry);
  return kept === undefined ? [] : [{ ...meter, ...kept, day, points: end.points, pointKeys: end.pointKeys }];
}

function timeOf({ endedMs }: SettledEntry["end"]): Micros {
  return Math.round(endedMs * 1000);
}

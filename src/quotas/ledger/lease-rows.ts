import { columnOf, textColumnOf } from "../../postgres/columns.ts";
import type { Database, Transaction } from "../../postgres/database.ts";
import { queryRows } from "../../postgres/statements.ts";
import type { DayLimits } from "../../shared/alerts.ts";
import { toIsoDay } from "../../shared/calendar.ts";
import { pointColumnOf } from "../../usage/writer.ts";
import { dayKeyOf, isSettled, type LedgerEntry, stateNumbers } from "./entry.ts";
import { ledgerStatements } from "./lease-statements.ts";

/** A lease that is settled in the ledger. */
export interface Settlement {
  readonly points: number;
  /** When the lease was granted that was settled: an operation may have been granted again since. */
  readonly grantedMs: number;
}

/** The limits of settled entries, for alerts. */
export type LimitsByEntry = ReadonlyMap<LedgerEntry, DayLimits>;

/** The caller and the user of a lease at its grant. Both may have changed since. */
interface Kept {
  readonly username: string;
  readonly companyKey: string;
  readonly tracecode: string;
}

/** The charged points of a day after putLeases, and those of the other days of its window before it. */
interface Sums {
  readonly dayPoints: number;
  readonly otherDayPoints: number;
}

export interface Put {
  /** Entries that changed nothing: their lease is settled, or further than they are. */
  readonly unchanged: ReadonlySet<LedgerEntry>;
  /** The leases that this call has settled. Empty unless they are asked for. */
  readonly settled: ReadonlyMap<LedgerEntry, Kept>;
  /** The sums of the days that have limits, by dayKeyOf. */
  readonly sums: ReadonlyMap<string, Sums>;
}

interface PutOptions {
  readonly limits: LimitsByEntry;
  /** Whether to return the settled leases. */
  readonly returnsSettled: boolean;
  /** Whether to count the unique points of settled leases. Otherwise the caller counts them. */
  readonly countsPoints: boolean;
  /** Whether the audit actions of settled leases are sent to the audit sink. */
  readonly sendsActions: boolean;
}

/** A row has the place of an entry, from 1, or the key of a day. An unchanged entry has no name. */
interface Row extends Nullable<Kept>, Nullable<Sums> {
  readonly n: number | null;
  readonly dayKey: string | null;
}
type Nullable<T> = { readonly [Name in keyof T]: T[Name] | null };

/**
 * Inserts leases or advances their state, never back. A settled lease does not change. A later grant replaces a released
 * grant of its operation. The same statement adds the points of settled leases to the sums of their day and to the
 * statistics, writes their audit actions, and notes the days of leases that run long.
 */
export async function putLeases(
  on: Database | Transaction,
  entries: readonly LedgerEntry[],
  options: Partial<PutOptions> = {},
): Promise<Put> {
  const { limits, returnsSettled, countsPoints, sendsActions } = { ...standardOptions, ...options };
  const values = valuesOf(entries);
  if (!entries.some(isSettled)) {
    return toPut(entries, await queryRows<{ n: number }>(on, ledgerStatements.putLeases, values));
  }
  const ends = entries.map(({ end }) => (end.state === "settled" ? end : undefined));
  const days = daysOf(limits);
  const rows = await queryRows<Row>(on, ledgerStatements.settleLeases, [
    ...values,
    columnOf(ends, (end) => end?.points),
    columnOf(ends, (end) => end?.durationMs),
    columnOf(ends, (end) => end?.outcome),
    textColumnOf(ends, (end) => end?.operation),
    textColumnOf(ends, (end) => end?.server),
    pointColumnOf(ends, (end) => (countsPoints ? end?.pointKeys : undefined)),
    returnsSettled,
    columnOf(days, ({ entry: { meter } }) => meter.userId),
    columnOf(days, ({ entry: { meter } }) => meter.service),
    columnOf(days, ({ entry: { meter } }) => meter.methodGroup),
    columnOf(days, ({ entry: { day } }) => day),
    columnOf(days, ({ window }) => window?.from),
    columnOf(days, ({ window }) => window?.to),
    sendsActions,
  ]);
  return toPut(entries, rows);
}

const standardOptions: PutOptions = {
  limits: new Map(),
  returnsSettled: false,
  countsPoints: true,
  sendsActions: false,
};

function valuesOf(entries: readonly LedgerEntry[]): string[] {
  return [
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
    columnOf(entries, ({ isHolderKnown }) => isHolderKnown),
  ];
}

function toPut(entries: readonly LedgerEntry[], rows: readonly Partial<Row>[]): Put {
  const unchanged = new Set<LedgerEntry>();
  const settled = new Map<LedgerEntry, Kept>();
  const sums = new Map<string, Sums>();
  for (const { n, dayKey, username, companyKey, tracecode, dayPoints, otherDayPoints } of rows) {
    if (typeof dayKey === "string") {
      const { dayPoints: day = 0, otherDayPoints: others = 0 } = sums.get(dayKey) ?? {};
      sums.set(dayKey, { dayPoints: day + (dayPoints ?? 0), otherDayPoints: others + (otherDayPoints ?? 0) });
      continue;
    }
    const entry = entries[(n ?? 0) - 1] as LedgerEntry;
    if (typeof username !== "string") unchanged.add(entry);
    else settled.set(entry, { username, companyKey: companyKey ?? "", tracecode: tracecode ?? "" });
  }
  return { unchanged, settled, sums };
}

/** Returns the days of method groups that have limits, each once, with the window whose points an alert needs. */
function daysOf(limits: LimitsByEntry) {
  const days = new Map<string, { entry: LedgerEntry; window: DayLimits["window"] | undefined }>();
  for (const [entry, { pointsPerDateWindow, window }] of limits) {
    days.set(dayKeyOf(entry), { entry, window: pointsPerDateWindow === undefined ? undefined : window });
  }
  return [...days.values()];
}

/** Returns how the leases of entries are settled. Leases that are not settled are left out. */
export async function findSettlements(
  database: Database,
  entries: readonly LedgerEntry[],
): Promise<ReadonlyMap<LedgerEntry, Settlement>> {
  if (entries.length === 0) return new Map();
  const rows = await queryRows<Settlement & { n: number }>(database, ledgerStatements.findSettlements, [
    columnOf(entries, ({ meter }) => meter.userId),
    columnOf(entries, ({ meter }) => meter.service),
    columnOf(entries, ({ meter }) => meter.methodGroup),
    columnOf(entries, ({ day }) => day),
    columnOf(entries, ({ operationId }) => operationId),
    [...new Set(entries.map(({ day }) => toIsoDay(day)))],
  ]);
  return new Map(
    rows.map(({ n, points, grantedMs }) => [
      entries[n - 1] as LedgerEntry,
      { points, grantedMs: Math.round(grantedMs) },
    ]),
  );
}

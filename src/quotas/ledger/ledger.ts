import type { Logger } from "pino";
import { createGroupCommit, type GroupCommit } from "../../postgres/group-commit.ts";
import { weightOf } from "../../shared/records.ts";
import type { Meter } from "../counters/engine.ts";
import { type LedgerEntry, leaseKeyOf, mergeEntries } from "./entry.ts";
import type { Settlement } from "./lease-rows.ts";
import { type LedgerWriters, writeEntries } from "./write.ts";

/**
 * The durable record of leases. A settled lease is written with its usage and its audit action. A commit resolves to the
 * settlement that the ledger holds, which may be of another entry. Undefined if the lease is not settled.
 */
export type Ledger = GroupCommit<LedgerEntry, Settlement | undefined>;

export interface LedgerLimits {
  /** The most that may wait. An entry counts as 1, and each 100 of its point keys as 1. */
  readonly capacity?: number;
  /** The timeout of commit(). */
  readonly commitTimeoutMs?: number;
}

export interface LedgerOptions extends LedgerWriters, LedgerLimits {
  readonly logger: Logger;
  /** Called when a settlement in the ledger contradicts the counters of the meter, which then count wrongly. */
  readonly onContradiction: (meter: Meter) => void;
  /** Called when a settlement was written after its commit had timed out: the counters may have been rebuilt without it. */
  readonly onLateSettlement?: (meter: Meter) => void;
  /** How long a grant is held back, so that a settlement may replace it. */
  readonly holdMs?: number;
}

/** Creates the ledger: a group commit that merges the entries of one lease while they wait. */
export function createLedger(options: LedgerOptions): Ledger {
  const { logger, onContradiction, onLateSettlement, capacity, commitTimeoutMs, holdMs, ...writers } = options;
  return createGroupCommit({
    name: "the ledger",
    logger,
    async write(entries) {
      const settlements = await writeEntries(writers, sortByKey(entries));
      return entries.map((entry) => {
        const settlement = settlements.get(entry);
        if (settlement !== undefined && contradicts(entry, settlement)) onContradiction(entry.meter);
        return settlement;
      });
    },
    // Entries of one lease are merged while they wait, so renewals do not fill the queue while PostgreSQL is unavailable.
    merging: {
      keyOf: leaseKeyOf,
      merge(first, second) {
        const { grantedMs, end, ...rest } = mergeEntries(first, second);
        const settlement = end.state === "settled" ? { grantedMs, points: end.points } : undefined;
        const isContradicted = (entry: LedgerEntry) => settlement !== undefined && contradicts(entry, settlement);
        if (isContradicted(first) || isContradicted(second)) onContradiction(first.meter);
        return { ...rest, grantedMs, end };
      },
    },
    describe: (entry) => ({ lease: leaseKeyOf(entry) }),
    sizeOf: ({ end }) => (end.state === "settled" ? weightOf(end) : 1),
    capacity,
    commitTimeoutMs,
    onLate({ meter, end }) {
      if (end.state === "settled") onLateSettlement?.(meter);
    },
    holdMs,
  });
}

/** Sorts entries by their keys: two writers must not deadlock. */
function sortByKey(entries: readonly LedgerEntry[]): LedgerEntry[] {
  const keyed = entries.map((entry) => ({ entry, key: leaseKeyOf(entry) }));
  return keyed.toSorted((left, right) => (left.key < right.key ? -1 : 1)).map(({ entry }) => entry);
}

/** Whether the counters have granted the settled operation again, or have charged other points. */
function contradicts({ grantedMs, end }: LedgerEntry, settlement: Settlement): boolean {
  if (grantedMs !== settlement.grantedMs) return true;
  return end.state === "settled" && end.points !== settlement.points;
}

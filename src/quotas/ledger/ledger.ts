import type { Logger } from "pino";
import { createGroupCommit, type GroupCommit } from "../../postgres/group-commit.ts";
import { weightOf } from "../../shared/records.ts";
import type { Meter } from "../counters/engine.ts";
import type { LedgerEntry } from "./entry.ts";
import { type LedgerWriters, leaseKeyOf, mergeEntries, type Settlement, writeEntries } from "./write.ts";

/**
 * The durable truth behind the counters: leases, and with settled ones their usage and their audit action. A commit
 * resolves with how the lease is settled, which may be by another entry than this one.
 */
export type Ledger = GroupCommit<LedgerEntry, Settlement | undefined>;

export interface LedgerOptions extends LedgerWriters {
  readonly logger: Logger;
  /** Called when the ledger has a lease settled that the counters have taken for another one, and so count wrongly. */
  readonly onContradiction: (meter: Meter) => void;
  /** How much may wait: entries and, as many, hundreds of points. */
  readonly capacity?: number;
  /** How long commit() waits. */
  readonly commitTimeoutMs?: number;
  /** How long a grant waits for its settlement. */
  readonly holdMs?: number;
}

export function createLedger(options: LedgerOptions): Ledger {
  const { logger, onContradiction, capacity, commitTimeoutMs, holdMs, ...books } = options;
  return createGroupCommit({
    name: "the ledger",
    logger,
    async write(entries) {
      // In key order: two writers must not deadlock.
      const sorted = entries.toSorted((one, other) => (leaseKeyOf(one) < leaseKeyOf(other) ? -1 : 1));
      const settlements = await writeEntries(books, sorted);
      return entries.map((entry) => {
        const settlement = settlements.get(leaseKeyOf(entry));
        if (settlement !== undefined && contradicts(entry, settlement)) onContradiction(entry.meter);
        return settlement;
      });
    },
    // A lease waits once, as far as it has come: renewals while PostgreSQL is away take no more room.
    merging: {
      keyOf: leaseKeyOf,
      merge(one, other) {
        const { grantedMs, end, ...rest } = mergeEntries(one, other);
        const settlement = end.state === "settled" ? { grantedMs, points: end.points } : undefined;
        const isContradicted = (entry: LedgerEntry) => settlement !== undefined && contradicts(entry, settlement);
        if (isContradicted(one) || isContradicted(other)) onContradiction(one.meter);
        return { ...rest, grantedMs, end };
      },
    },
    describe: (entry) => ({ lease: leaseKeyOf(entry) }),
    sizeOf: ({ end }) => (end.state === "settled" ? weightOf(end) : 1),
    capacity,
    commitTimeoutMs,
    holdMs,
  });
}

/** Whether the counters have granted a settled operation again, or have charged it otherwise. */
function contradicts({ grantedMs, end }: LedgerEntry, settlement: Settlement): boolean {
  if (grantedMs !== settlement.grantedMs) return true;
  return end.state === "settled" && end.points !== settlement.points;
}

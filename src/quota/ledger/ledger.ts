import type { Logger } from "pino";
import { weightOf } from "../../core/history.ts";
import { createGroupCommit, type GroupCommit } from "../../storage/group-commit.ts";
import type { LedgerEntry } from "./entry.ts";
import { type Books, keyOf, merge, writeEntries } from "./write.ts";

/** The durable truth behind the counters: leases, and with settled ones their usage and their audit action. */
export type Ledger = GroupCommit<LedgerEntry>;

export interface LedgerOptions extends Books {
  readonly logger: Logger;
  /** How much may wait: entries and, as many, hundreds of points. */
  readonly capacity?: number;
  /** How long commit() waits. */
  readonly commitTimeoutMs?: number;
  /** How long a grant waits for its settlement. */
  readonly holdMs?: number;
}

export function createLedger({ logger, capacity, commitTimeoutMs, holdMs, ...books }: LedgerOptions): Ledger {
  return createGroupCommit({
    name: "the ledger",
    logger,
    write: (entries) => writeEntries(books, merged(entries)),
    describe: (entry) => ({ lease: keyOf(entry) }),
    sizeOf: ({ end }) => (end.state === "settled" ? weightOf(end) : 1),
    capacity,
    commitTimeoutMs,
    holdMs,
  });
}

/** A statement writes a lease once: as far as it has come. */
function merged(batch: readonly LedgerEntry[]): LedgerEntry[] {
  const entries = new Map<string, LedgerEntry>();
  for (const entry of batch) {
    const key = keyOf(entry);
    const other = entries.get(key);
    entries.set(key, other === undefined ? entry : merge(other, entry));
  }
  // In key order: two writers must not deadlock.
  return [...entries].toSorted(([one], [other]) => (one < other ? -1 : 1)).map(([, entry]) => entry);
}

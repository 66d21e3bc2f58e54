import { setImmediate as nextTurn, setTimeout as wait } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import type { Logger } from "pino";
import { unavailable } from "../../core/errors.ts";
import type { Database } from "../../storage/database.ts";
import { toError } from "../../storage/errors.ts";
import type { Ledger, LedgerEntry } from "./ledger.ts";
import { keyOf, merge, writeEntries } from "./write.ts";

export interface LedgerOptions {
  readonly database: Database;
  readonly logger: Logger;
  /** Entries that may wait. */
  readonly capacity?: number;
  /** How long commit() waits. */
  readonly commitTimeoutMs?: number;
}

interface Waiting {
  readonly entry: LedgerEntry;
  readonly settle: (error?: unknown) => void;
}

const maxBatch = 500;
/** While one batch is committed, the next is on its way. */
const maxInFlight = 2;
const retryAfterMs = 1000;
const backoffMs = { first: 50, most: 2000 };

/**
 * Group commit: what waits when a turn is free is written in one transaction. A batch that fails because PostgreSQL is
 * away is tried again until it is back; one that fails for what is in it is halved until the one entry that cannot be
 * written is alone, logged and left out.
 */
export function createLedger(options: LedgerOptions): Ledger {
  const { database, logger, capacity = 20_000, commitTimeoutMs = 5000 } = options;
  let waiting: Waiting[] = [];
  /** Entries that were ever taken into a batch. */
  let begun = 0;
  /** Entries that were taken and are not committed yet. */
  let pending = 0;
  /** Each batch that is being written, and the number of its first entry. */
  const inFlight = new Map<Promise<void>, number>();
  let scheduled = false;
  let isAway = false;

  function put(entry: LedgerEntry, settle: Waiting["settle"]): void {
    pending += 1;
    waiting.push({ entry, settle });
    schedule();
  }

  function schedule(): void {
    if (scheduled || waiting.length === 0 || inFlight.size >= maxInFlight) return;
    scheduled = true;
    // What arrives in this turn of the event loop goes together.
    setImmediate(() => {
      scheduled = false;
      const batch = waiting.slice(0, maxBatch);
      waiting = waiting.slice(maxBatch);
      const writing = write(batch).finally(() => {
        inFlight.delete(writing);
        schedule();
      });
      inFlight.set(writing, begun);
      begun += batch.length;
      schedule();
    });
  }

  /** Resolves when every entry of the batch is written or left out. */
  async function write(batch: readonly Waiting[]): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        await writeEntries(database, merged(batch));
        isAway = false;
        return end(batch);
      } catch (error) {
        if (toError(error).code !== Code.Unavailable) return divide(batch, error);
        if (!isAway) logger.warn({ err: error, waiting: pending }, "the ledger cannot be written now");
        isAway = true;
        const delayMs = Math.min(backoffMs.first * 2 ** attempt, backoffMs.most);
        await wait(delayMs * (0.5 + Math.random() / 2));
      }
    }
  }

  async function divide(batch: readonly Waiting[], error: unknown): Promise<void> {
    const [first] = batch;
    if (first !== undefined && batch.length === 1) {
      logger.error(
        { err: error, lease: keyOf(first.entry) },
        "an entry of the ledger cannot be written: it is left out",
      );
      return end(batch, error);
    }
    const middle = Math.ceil(batch.length / 2);
    await write(batch.slice(0, middle));
    await write(batch.slice(middle));
  }

  function end(batch: readonly Waiting[], error?: unknown): void {
    pending -= batch.length;
    for (const { settle } of batch) settle(error);
  }

  async function flush(): Promise<void> {
    const taken = begun + waiting.length;
    // Batches end in any order.
    while (Math.min(begun, ...inFlight.values()) < taken) {
      await (inFlight.size === 0 ? nextTurn() : Promise.race(inFlight.keys()));
    }
  }

  return {
    hasRoom: () => pending < capacity,
    append: (entry) => put(entry, () => undefined),
    commit(entry) {
      if (pending >= capacity) return Promise.reject(unavailable("the ledger is behind", retryAfterMs));
      return new Promise((resolve, reject) => {
        const late = () => reject(unavailable("the ledger is behind", retryAfterMs));
        const timer = setTimeout(late, commitTimeoutMs);
        put(entry, (error) => {
          clearTimeout(timer);
          if (error === undefined) resolve();
          else reject(error);
        });
      });
    },
    flush,
  };
}

/** A statement writes a lease once: as far as it has come. */
function merged(batch: readonly Waiting[]): LedgerEntry[] {
  const entries = new Map<string, LedgerEntry>();
  for (const { entry } of batch) {
    const key = keyOf(entry);
    const other = entries.get(key);
    entries.set(key, other === undefined ? entry : merge(other, entry));
  }
  // In key order: two writers must not deadlock.
  return [...entries].toSorted(([one], [other]) => (one < other ? -1 : 1)).map(([, entry]) => entry);
}

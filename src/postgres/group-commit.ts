import { setImmediate as nextTurn, setTimeout as wait } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import type { Logger } from "pino";
import { unavailable } from "../shared/errors.ts";
import { isStatementTimeout, toDatabaseError } from "./errors.ts";

/** Writes entries to PostgreSQL, many callers' in one transaction. */
export interface GroupCommit<Entry, Result = void> {
  /** Whether it takes entries now: false while PostgreSQL is so slow that the queue is full. */
  hasRoom(): boolean;
  /** Takes an entry that is written within 50 ms while PostgreSQL answers, and tried again while it does not. */
  append(entry: Entry): void;
  /**
   * As append; resolves when the entry is committed, with what `write` returned for it.
   * @throws UNAVAILABLE when that takes too long or the queue is full; the entry may still be written
   */
  commit(entry: Entry): Promise<Result>;
  /** Resolves when everything that was taken before is committed. */
  flush(): Promise<void>;
  /** Entries that were taken and are neither committed nor left out. */
  pending(): number;
}

export interface GroupCommitOptions<Entry, Result = void> {
  /** What is written, for people: "the ledger". */
  readonly name: string;
  readonly logger: Logger;
  /** Writes entries in one transaction: all or none. Returns a result for each, in order. */
  readonly write: (entries: readonly Entry[]) => Promise<readonly Result[]>;
  /** Names an entry in the log. */
  readonly describe: (entry: Entry) => object;
  /** How much an entry is of what `capacity` and a batch hold; 1 where it is not given. */
  readonly sizeOf?: (entry: Entry) => number;
  /**
   * Batches that are written at once; 1 where it is not given: what arrives meanwhile makes the next batch larger, and a
   * commit costs more than most of what is in it.
   */
  readonly maxInFlight?: number;
  /** How much may wait. */
  readonly capacity?: number | undefined;
  /** How long commit() waits. */
  readonly commitTimeoutMs?: number | undefined;
  /**
   * How long an entry waits for others if nobody waits for it: its batch costs a commit, and what ends a short calculation
   * is then written with what began it, as one row.
   */
  readonly holdMs?: number | undefined;
  /** Entries of one key wait as one: the queue has as many as there are keys. Absent: each waits by itself. */
  readonly merging?: {
    readonly keyOf: (entry: Entry) => string;
    /** Two entries of one key, the earlier one first, as one. Its result is that of both. */
    readonly merge: (one: Entry, other: Entry) => Entry;
  };
}

interface Waiting<Entry, Result> {
  entry: Entry;
  /** Of the calls that wait for it. */
  readonly settles: ((outcome: Outcome<Result>) => void)[];
}

type Outcome<Result> = { readonly result: Result } | { readonly error: unknown };

const maxBatch = 500;
const retryAfterMs = 1000;
const backoffMs = { first: 50, most: 2000 };

/**
 * Group commit: what waits when a turn is free is written in one transaction. A batch that fails because PostgreSQL is
 * away is tried again until it is back; one that takes too long is halved; one that fails for what is in it is halved
 * until the one entry that cannot be written is alone, logged and left out.
 */
export function createGroupCommit<Entry, Result = void>(
  options: GroupCommitOptions<Entry, Result>,
): GroupCommit<Entry, Result> {
  const {
    name,
    logger,
    sizeOf = () => 1,
    maxInFlight = 1,
    capacity = 20_000,
    commitTimeoutMs = 5000,
    holdMs = 20,
    merging,
  } = options;
  let waiting: Waiting<Entry, Result>[] = [];
  /** Those of `waiting`, by their keys. */
  const byKey = new Map<string, Waiting<Entry, Result>>();
  /** Entries that were ever taken into a batch. */
  let begun = 0;
  /** How much was taken and is not committed yet. */
  let pending = 0;
  let entries = 0;
  /** Each batch that is being written, and the number of its first entry. */
  const inFlight = new Map<Promise<void>, number>();
  let scheduled = false;
  /** Whether somebody waits for an entry, or one has waited long enough, or enough of them do for a batch. */
  let isDue = false;
  let hold: NodeJS.Timeout | undefined;
  let isAway = false;

  function put(entry: Entry, ...settles: Waiting<Entry, Result>["settles"]): void {
    const key = merging?.keyOf(entry);
    const other = key === undefined ? undefined : byKey.get(key);
    if (merging !== undefined && other !== undefined) {
      pending -= sizeOf(other.entry);
      other.entry = merging.merge(other.entry, entry);
      pending += sizeOf(other.entry);
      other.settles.push(...settles);
      return;
    }
    pending += sizeOf(entry);
    entries += 1;
    const added = { entry, settles };
    waiting.push(added);
    if (key !== undefined) byKey.set(key, added);
  }

  /** What waits is to be written now. */
  function due(): void {
    clearTimeout(hold);
    hold = undefined;
    isDue = true;
    schedule();
  }

  function schedule(): void {
    if (!isDue || scheduled || waiting.length === 0 || inFlight.size >= maxInFlight) return;
    scheduled = true;
    // What arrives in this turn of the event loop goes together.
    setImmediate(() => {
      scheduled = false;
      const batch = take();
      const writing = write(batch).finally(() => {
        inFlight.delete(writing);
        schedule();
      });
      inFlight.set(writing, begun);
      begun += batch.length;
      schedule();
    });
  }

  /** A batch of what waits: one entry, and more as long as they fit. */
  function take(): Waiting<Entry, Result>[] {
    let size = 0;
    let count = 0;
    for (const { entry } of waiting) {
      size += sizeOf(entry);
      if (count > 0 && size > maxBatch) break;
      count += 1;
    }
    const batch = waiting.slice(0, count);
    waiting = waiting.slice(count);
    // What comes from now on may be committed later than these.
    if (merging !== undefined) for (const { entry } of batch) byKey.delete(merging.keyOf(entry));
    isDue = waiting.length > 0;
    return batch;
  }

  /** Resolves when every entry of the batch is written or left out. */
  async function write(batch: readonly Waiting<Entry, Result>[]): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const results = await options.write(batch.map(({ entry }) => entry));
        isAway = false;
        return end(batch, (index) => ({ result: results[index] as Result }));
      } catch (error) {
        // What takes too long at once may not in parts.
        const isTooMuch = isStatementTimeout(error) && batch.length > 1;
        if (isTooMuch || toDatabaseError(error).code !== Code.Unavailable) return divide(batch, error);
        if (!isAway) logger.warn({ err: error, waiting: pending }, `${name} cannot be written now`);
        isAway = true;
        const delayMs = Math.min(backoffMs.first * 2 ** attempt, backoffMs.most);
        await wait(delayMs * (0.5 + Math.random() / 2));
      }
    }
  }

  async function divide(batch: readonly Waiting<Entry, Result>[], error: unknown): Promise<void> {
    const [first] = batch;
    if (first !== undefined && batch.length === 1) {
      logger.error(
        { err: error, ...options.describe(first.entry) },
        `an entry of ${name} cannot be written: it is left out`,
      );
      return end(batch, () => ({ error }));
    }
    const middle = Math.ceil(batch.length / 2);
    await write(batch.slice(0, middle));
    await write(batch.slice(middle));
  }

  function end(batch: readonly Waiting<Entry, Result>[], outcomeOf: (index: number) => Outcome<Result>): void {
    for (const [index, { entry, settles }] of batch.entries()) {
      pending -= sizeOf(entry);
      entries -= 1;
      for (const settle of settles) settle(outcomeOf(index));
    }
  }

  async function flush(): Promise<void> {
    const taken = begun + waiting.length;
    due();
    // Batches end in any order.
    while (Math.min(begun, ...inFlight.values()) < taken) {
      await (inFlight.size === 0 ? nextTurn() : Promise.race(inFlight.keys()));
    }
  }

  return {
    hasRoom: () => pending < capacity,
    append(entry) {
      put(entry);
      if (waiting.length >= maxBatch) due();
      else hold ??= setTimeout(due, holdMs);
    },
    commit(entry) {
      if (pending >= capacity) return Promise.reject(unavailable("LEDGER_BEHIND", `${name} is behind`, retryAfterMs));
      return new Promise((resolve, reject) => {
        const late = () => reject(unavailable("LEDGER_BEHIND", `${name} is behind`, retryAfterMs));
        const timer = setTimeout(late, commitTimeoutMs);
        put(entry, (outcome) => {
          clearTimeout(timer);
          if ("result" in outcome) resolve(outcome.result);
          else reject(outcome.error);
        });
        due();
      });
    },
    flush,
    pending: () => entries,
  };
}

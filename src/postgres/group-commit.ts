import { setImmediate as nextTurn, setTimeout as wait } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import type { Logger } from "pino";
import { type Backoff, delayAfter } from "../shared/backoff.ts";
import { unavailable } from "../shared/errors.ts";
import { addValue, createHistogram, type Histogram } from "../shared/measures.ts";
import { currentTracer, endWith, type SpanIds } from "../shared/tracing.ts";
import { isStatementTimeout, toDatabaseError } from "./errors.ts";

/** Writes the entries of many callers to PostgreSQL in shared transactions. */
export interface GroupCommit<Entry, Result = void> {
  /** Returns false while the queue is full because PostgreSQL is slow. */
  hasRoom(): boolean;
  /** Queues an entry. It is written within 50 ms while PostgreSQL responds, and retried while it does not. */
  append(entry: Entry): void;
  /**
   * Queues an entry and waits until it is committed. Resolves with the result of `write` for it.
   * @throws UNAVAILABLE when the commit takes too long (the entry may still be written) or the queue is full
   */
  commit(entry: Entry): Promise<Result>;
  /** Resolves when all entries queued before are committed or dropped. */
  flush(): Promise<void>;
  /** Returns how many entries are neither committed nor dropped. */
  pending(): number;
  /** Returns how long the oldest of them has waited, in milliseconds. 0 when there is none. */
  oldestMs(): number;
  readonly measures: GroupCommitMeasures;
}

/** The batches of a group commit so far. */
export interface GroupCommitMeasures {
  /** Entries of each committed batch. */
  readonly entries: Histogram;
  /** The time to write each committed batch, with its retries. */
  readonly seconds: Histogram;
  /** Invalid entries that were dropped. */
  dropped: number;
}

export interface GroupCommitOptions<Entry, Result = void> {
  /** Names the queue in errors and logs: "the ledger". */
  readonly name: string;
  readonly logger: Logger;
  /** Writes entries in one transaction: all or none. Returns a result for each, in order. */
  readonly write: (entries: readonly Entry[]) => Promise<readonly Result[]>;
  /** Returns log fields that identify an entry. */
  readonly describe: (entry: Entry) => object;
  /** Returns the size of an entry, for `capacity` and the size of a batch. Default: 1. */
  readonly sizeOf?: (entry: Entry) => number;
  /**
   * Batches that are written at once. Default: 1. With few, entries that arrive meanwhile make the next batch larger, and
   * a commit costs more than most of its rows.
   */
  readonly maxInFlight?: number;
  /** The largest sum of sizes of the entries of a batch, unless a single entry is larger. Default: 500. */
  readonly batchSize?: number;
  /** Total size of the entries that may wait. Default: 20,000. */
  readonly capacity?: number | undefined;
  /** How long commit() waits. Default: 5000. */
  readonly commitTimeoutMs?: number | undefined;
  /** Called with the result of an entry that is written after its commit() has failed by timeout. */
  readonly onLate?: ((entry: Entry, result: Result) => void) | undefined;
  /**
   * How long an appended entry waits, even while others are written. Default: 20. The end of a short calculation is then
   * written together with its start, as one row.
   */
  readonly holdMs?: number | undefined;
  /** Merges waiting entries with the same key, so that the queue has one entry per key. Absent: entries are not merged. */
  readonly merging?: {
    readonly keyOf: (entry: Entry) => string;
    /** Merges two entries of one key, the earlier one first. Both callers get the result of the merged entry. */
    readonly merge: (earlier: Entry, later: Entry) => Entry;
  };
}

interface Waiting<Entry, Result> {
  entry: Entry;
  /** Undefined unless entries are merged. */
  readonly key: string | undefined;
  /** Callbacks of the callers that wait for the entry. */
  readonly settles: ((outcome: Outcome<Result>) => void)[];
  /** The spans of the first and the latest caller of the entry. Empty while tracing is off. */
  spans: readonly SpanIds[];
  /** When it was queued, by performance.now(). */
  readonly sinceMs: number;
}

/** A batch that is being written. */
interface Batch {
  /** Resolves when its entries are written or dropped. */
  readonly written: Promise<void>;
  /** The number of its first entry, counted since the start. */
  readonly first: number;
  /** When its oldest entry was queued, by performance.now(). */
  readonly sinceMs: number;
}

type Outcome<Result> = { readonly result: Result } | { readonly error: unknown };

const batchBounds = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const retryAfterMs = 1000;
const backoff: Backoff = { firstMs: 50, mostMs: 2000 };

/**
 * Creates a group commit: all entries that wait are written in one transaction. A batch is retried while PostgreSQL is
 * unavailable. A batch that exceeds statement_timeout is halved. A batch with an invalid entry is halved until that entry
 * is alone; it is then logged and dropped.
 */
export function createGroupCommit<Entry, Result = void>(
  options: GroupCommitOptions<Entry, Result>,
): GroupCommit<Entry, Result> {
  const {
    name,
    logger,
    sizeOf = () => 1,
    maxInFlight = 1,
    batchSize = 500,
    capacity = 20_000,
    commitTimeoutMs = 5000,
    onLate,
    holdMs = 20,
    merging,
  } = options;
  let waiting: Waiting<Entry, Result>[] = [];
  /** The entries in `waiting`, by key. */
  let byKey = new Map<string, Waiting<Entry, Result>>();
  /** Entries taken into batches since the start. */
  let started = 0;
  /** Entries are taken in order, held ones too, until this number has been taken. */
  let flushedUntil = 0;
  /** Total size of the entries that are not committed yet. */
  let pendingSize = 0;
  let pendingEntries = 0;
  let inFlight: readonly Batch[] = [];
  const measures: GroupCommitMeasures = {
    entries: createHistogram(batchBounds),
    seconds: createHistogram(),
    dropped: 0,
  };
  let scheduled = false;
  /** Whether to write now: a caller waits, the hold time of an entry is over, or a batch is full. */
  let isDue = false;
  let holdTimer: NodeJS.Timeout | undefined;
  let isUnavailable = false;

  function enqueue(entry: Entry, ...settles: Waiting<Entry, Result>["settles"]): void {
    const key = merging?.keyOf(entry);
    const existing = key === undefined ? undefined : byKey.get(key);
    const span = currentTracer()?.currentIds();
    if (merging !== undefined && existing !== undefined) {
      pendingSize -= sizeOf(existing.entry);
      existing.entry = merging.merge(existing.entry, entry);
      pendingSize += sizeOf(existing.entry);
      existing.settles.push(...settles);
      if (span !== undefined) existing.spans = [...existing.spans.slice(0, 1), span];
      return;
    }
    pendingSize += sizeOf(entry);
    pendingEntries += 1;
    const added = { entry, key, settles, spans: span === undefined ? [] : [span], sinceMs: performance.now() };
    waiting.push(added);
    if (key !== undefined) byKey.set(key, added);
  }

  function writeNow(): void {
    clearTimeout(holdTimer);
    holdTimer = undefined;
    isDue = true;
    schedule();
  }

  function schedule(): void {
    if (!isDue || scheduled || waiting.length === 0 || inFlight.length >= maxInFlight) return;
    scheduled = true;
    // Entries that arrive in this turn of the event loop share the batch.
    setImmediate(() => {
      scheduled = false;
      const batch = takeBatch();
      if (batch.length > 0) begin(batch);
    });
  }

  function begin(batch: readonly Waiting<Entry, Result>[]): void {
    const written = write(batch).finally(() => {
      inFlight = inFlight.filter((other) => other.written !== written);
      schedule();
    });
    inFlight = [...inFlight, { written, first: started, sinceMs: batch[0]?.sinceMs ?? 0 }];
    started += batch.length;
    schedule();
  }

  /** Removes the next batch from the queue: at least one of the entries that are due, and more while they fit. */
  function takeBatch(): Waiting<Entry, Result>[] {
    const batch: Waiting<Entry, Result>[] = [];
    const rest: Waiting<Entry, Result>[] = [];
    const takesHeld = started < flushedUntil || waiting.length >= batchSize;
    // A timer may fire a millisecond early.
    const heldSinceMs = performance.now() - holdMs + 1;
    let size = 0;
    isDue = false;
    for (const one of waiting) {
      const isHeld = !takesHeld && one.settles.length === 0 && one.sinceMs > heldSinceMs;
      if (!isHeld && size <= batchSize) size += sizeOf(one.entry);
      if (!isHeld && (size <= batchSize || batch.length === 0)) batch.push(one);
      else rest.push(one);
      isDue ||= !isHeld && size > batchSize;
    }
    waiting = rest;
    forgetKeys(batch);
    const [oldest] = rest;
    if (oldest !== undefined && !isDue) {
      holdTimer ??= setTimeout(writeNow, Math.max(1, oldest.sinceMs + holdMs - performance.now()));
    }
    return batch;
  }

  /** Later entries are not merged into a batch that was taken: it may be committed before they arrive. */
  function forgetKeys(batch: readonly Waiting<Entry, Result>[]): void {
    // Copying a long queue for each batch would hold up the event loop.
    if (waiting.length > batchSize) {
      for (const { key } of batch) if (key !== undefined) byKey.delete(key);
      return;
    }
    // A new map, because V8 may keep what passed through a long-lived one until the next full garbage collection.
    byKey = new Map();
    for (const one of waiting) if (one.key !== undefined) byKey.set(one.key, one);
  }

  /** Resolves when every entry of the batch is written or dropped. */
  async function write(batch: readonly Waiting<Entry, Result>[]): Promise<void> {
    const startedMs = performance.now();
    for (let attempt = 0; ; attempt += 1) {
      try {
        const results = await traceBatch(name, batch, () => options.write(batch.map(({ entry }) => entry)));
        isUnavailable = false;
        addValue(measures.entries, batch.length);
        addValue(measures.seconds, (performance.now() - startedMs) / 1000);
        return settle(batch, (index) => ({ result: results[index] as Result }));
      } catch (error) {
        // Halves of a batch that is too slow may be fast enough.
        const isTooLarge = isStatementTimeout(error) && batch.length > 1;
        if (isTooLarge || toDatabaseError(error).code !== Code.Unavailable) return divide(batch, error);
        if (!isUnavailable) logger.warn({ err: error, queue: name, waiting: pendingSize }, "batch write interrupted");
        isUnavailable = true;
        await wait(delayAfter(backoff, attempt, Math.random));
      }
    }
  }

  async function divide(batch: readonly Waiting<Entry, Result>[], error: unknown): Promise<void> {
    const [first] = batch;
    if (first !== undefined && batch.length === 1) {
      logger.error({ err: error, queue: name, ...options.describe(first.entry) }, "invalid entry dropped");
      measures.dropped += 1;
      return settle(batch, () => ({ error }));
    }
    const middle = Math.ceil(batch.length / 2);
    await write(batch.slice(0, middle));
    await write(batch.slice(middle));
  }

  function settle(batch: readonly Waiting<Entry, Result>[], outcomeOf: (index: number) => Outcome<Result>): void {
    for (const [index, { entry, settles }] of batch.entries()) {
      pendingSize -= sizeOf(entry);
      pendingEntries -= 1;
      for (const notify of settles) notify(outcomeOf(index));
    }
  }

  async function flush(): Promise<void> {
    const target = started + waiting.length;
    flushedUntil = target;
    writeNow();
    // Batches may end in any order.
    while (Math.min(started, ...inFlight.map(({ first }) => first)) < target) {
      await (inFlight.length === 0 ? nextTurn() : Promise.race(inFlight.map(({ written }) => written)));
    }
  }

  return {
    hasRoom: () => pendingSize < capacity,
    append(entry) {
      enqueue(entry);
      if (waiting.length >= batchSize) writeNow();
      else holdTimer ??= setTimeout(writeNow, holdMs);
    },
    commit(entry) {
      if (pendingSize >= capacity)
        return Promise.reject(unavailable("LEDGER_BEHIND", `${name} is behind`, retryAfterMs));
      return new Promise((resolve, reject) => {
        let isLate = false;
        const timer = setTimeout(() => {
          isLate = true;
          reject(unavailable("LEDGER_BEHIND", `${name} is behind`, retryAfterMs));
        }, commitTimeoutMs);
        enqueue(entry, (outcome) => {
          clearTimeout(timer);
          if ("error" in outcome) return reject(outcome.error);
          resolve(outcome.result);
          if (isLate) onLate?.(entry, outcome.result);
        });
        writeNow();
      });
    },
    flush,
    pending: () => pendingEntries,
    oldestMs() {
      const sinceMs = Math.min(waiting[0]?.sinceMs ?? Infinity, ...inFlight.map((batch) => batch.sinceMs));
      return sinceMs === Infinity ? 0 : performance.now() - sinceMs;
    },
    measures,
  };
}

/** Runs the write of a batch in a span of its own, linked to the calls whose entries it has. */
function traceBatch<Result>(
  name: string,
  batch: readonly Waiting<unknown, never>[],
  work: () => Promise<Result>,
): Promise<Result> {
  const tracer = currentTracer();
  if (tracer === undefined) return work();
  const links = batch.flatMap(({ spans }) => spans);
  return endWith(tracer.startBatch(`write ${name}`, { "tollgate.entries": batch.length }, links), work);
}

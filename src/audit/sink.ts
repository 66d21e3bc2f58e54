import type { Logger } from "pino";
import type { Database } from "../postgres/database.ts";
import { type Backoff, delayAfter } from "../shared/backoff.ts";
import { createBatch } from "./sink-messages.ts";
import {
  claimSink,
  confirmBatch,
  failBatch,
  listUnsent,
  prepareSink,
  readUnsentActions,
  type SinkClaim,
} from "./sink-outbox.ts";

/** The sending of audit actions to the sink. */
export interface AuditSink {
  readonly counts: SinkCounts;
  /** Stops, and waits for a running attempt. */
  stop(): Promise<void>;
}

/** The work of this process since its start. */
export interface SinkCounts {
  /** Batches that the sink accepted, and attempts that failed. */
  readonly batches: { accepted: number; failed: number };
  /** Actions of accepted batches, and dropped actions that they report. */
  readonly actions: { sent: number; dropped: number };
}

export interface AuditSinkOptions {
  readonly database: Database;
  readonly logger: Logger;
  /** Sends a batch, in less time than `claimMs`. Throws an Error with the reason if it was not accepted. */
  readonly send: (batch: { readonly id: string; readonly body: string }) => Promise<void>;
  readonly schedule?: Partial<SinkSchedule>;
  /** Returns 0 until before 1. */
  readonly random?: () => number;
}

/** Times in milliseconds. */
interface SinkSchedule extends Backoff {
  readonly pollMs: number;
  readonly claimMs: number;
  /** The largest number of actions of a batch, at least 100. */
  readonly batchActions: number;
}

const standard: SinkSchedule = { pollMs: 1000, firstMs: 1000, mostMs: 60_000, claimMs: 30_000, batchActions: 1000 };

/**
 * Sends the actions of the outbox in batches, each action at least once. One server of a database sends at a time, one
 * batch after the other, so the sink receives actions in the order in which they were recorded. A failed attempt is
 * repeated with exponential backoff, without end.
 */
export function startAuditSink({
  database,
  logger,
  send,
  random = Math.random,
  ...options
}: AuditSinkOptions): AuditSink {
  const schedule = { ...standard, ...options.schedule };
  const { pollMs, claimMs, batchActions } = schedule;
  const counts: SinkCounts = { batches: { accepted: 0, failed: 0 }, actions: { sent: 0, dropped: 0 } };
  const state = { isStopped: false };
  let isPrepared = false;
  let isInterrupted = false;
  let running: Promise<void> | undefined;

  /** @returns whether more actions may wait than one batch holds */
  async function sendBatch(): Promise<boolean> {
    const claim = await claimSink(database, claimMs);
    if (claim === undefined) return false;
    const listed = await listUnsent(database, batchActions);
    if (listed.length === 0) return false;
    const rows = await readUnsentActions(database, listed);
    const { id, body, entries, actions, dropped } = await createBatch(claim, listed, rows);
    try {
      await send({ id, body });
    } catch (error) {
      await fail(claim, error instanceof Error ? error.message : String(error));
      return false;
    }
    if (!(await confirmBatch(database, claim, entries))) return false;
    counts.batches.accepted += 1;
    counts.actions.sent += actions;
    counts.actions.dropped += claim.dropped + dropped;
    // Retention has logged the actions that it dropped from the outbox itself.
    if (dropped > 0) logger.error({ actions: dropped, sequence: claim.sequence }, "unsent audit actions dropped");
    if (claim.failing_since !== null) {
      logger.info({ failures: claim.failures, since: claim.failing_since }, "audit sink restored");
    }
    // Fewer actions wait for the next poll: many small batches would cost more than they save.
    return entries.length < listed.length || actions + dropped > batchActions / 2;
  }

  async function fail(claim: SinkClaim, reason: string): Promise<void> {
    counts.batches.failed += 1;
    await failBatch(database, claim, reason, delayAfter(schedule, claim.failures, random));
    // One line for all servers: the state of the failure is in the database.
    if (claim.failing_since === null) logger.warn({ reason }, "audit sink lost");
  }

  async function sendWaiting(): Promise<void> {
    try {
      if (!isPrepared) await prepareSink(database);
      isPrepared = true;
      while (!state.isStopped && (await sendBatch()));
      isInterrupted = false;
    } catch (error) {
      // The outbox keeps the actions: the next poll tries again.
      if (!isInterrupted) logger.warn({ err: error }, "audit outbox not read");
      isInterrupted = true;
    }
  }

  function poll(): void {
    running ??= sendWaiting().finally(() => {
      running = undefined;
    });
  }

  poll();
  const timer = setInterval(poll, pollMs);
  timer.unref();
  return {
    counts,
    async stop() {
      state.isStopped = true;
      clearInterval(timer);
      await running;
    },
  };
}

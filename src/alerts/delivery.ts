import type { Logger } from "pino";
import type { Database } from "../postgres/database.ts";
import { type Backoff, delayAfter } from "../shared/backoff.ts";
import { type ClaimedAlert, claimAlerts, markFailed, markSent } from "./outbox.ts";
import type { Webhook } from "./webhook.ts";

export interface Delivery {
  /** Sends due alerts soon, instead of at the next poll. */
  schedule(): void;
  /** Stops, and waits for running attempts. */
  stop(): Promise<void>;
  readonly counts: DeliveryCounts;
}

/** How attempts to send an alert ended. */
export interface DeliveryCounts {
  sent: number;
  /** Failed attempts after which the alert waits for another one. */
  failed: number;
  /** Last attempts that failed. */
  abandoned: number;
}

export interface DeliveryOptions {
  readonly database: Database;
  readonly logger: Logger;
  /** Sends one alert, in less time than `claimMs`. Throws if it was not accepted. */
  readonly send: (webhook: Webhook) => Promise<void>;
  readonly schedule?: Partial<Schedule>;
  /** Returns 0 until before 1. */
  readonly random?: () => number;
}

/** Times in milliseconds. */
interface Schedule extends Backoff {
  readonly pollMs: number;
  readonly attempts: number;
  readonly claimMs: number;
}

/** Fifteen attempts take about ten hours. */
const defaults: Schedule = { pollMs: 5000, firstMs: 5000, mostMs: 14_400_000, attempts: 15, claimMs: 60_000 };
const maxConcurrent = 10;

/**
 * Sends the alerts of the outbox, at least once each. Servers share the work: each alert is claimed by one at a time. A
 * failed attempt is repeated with exponential backoff. After the last attempt the alert is abandoned.
 */
export function startDelivery({ database, logger, send, random = Math.random, ...options }: DeliveryOptions): Delivery {
  const times = { ...defaults, ...options.schedule };
  const { pollMs, attempts: maxAttempts, claimMs } = times;
  const state = { isStopped: false, isRequested: false };
  const counts: DeliveryCounts = { sent: 0, failed: 0, abandoned: 0 };
  let isFailing = false;
  let running: Promise<void> | undefined;

  async function deliver({ id, body, attempts }: ClaimedAlert): Promise<void> {
    try {
      await send({ id, body });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const isLast = attempts >= maxAttempts;
      await markFailed(database, id, reason, isLast ? undefined : delayAfter(times, attempts - 1, random));
      counts[isLast ? "abandoned" : "failed"] += 1;
      if (isLast) logger.error({ alert: id, attempts, reason }, "alert abandoned");
      else if (!isFailing) logger.warn({ alert: id, reason }, "alert delivery interrupted");
      isFailing = true;
      return;
    }
    await markSent(database, id);
    counts.sent += 1;
    if (isFailing) logger.info({ alert: id }, "alert delivery resumed");
    isFailing = false;
  }

  async function deliverDue(): Promise<void> {
    while (state.isRequested && !state.isStopped) {
      state.isRequested = false;
      const claimed = await claimAlerts(database, maxConcurrent, claimMs);
      await Promise.all(claimed.map(deliver));
      // More may be due.
      if (claimed.length === maxConcurrent) state.isRequested = true;
    }
  }

  function schedule(): void {
    state.isRequested = true;
    if (state.isStopped || running !== undefined) return;
    running = deliverDue()
      // The outbox keeps the alerts: the next poll tries again.
      .catch((error: unknown) => logger.warn({ err: error }, "outbox not read"))
      .finally(() => {
        running = undefined;
      });
  }

  schedule();
  const timer = setInterval(schedule, pollMs);
  timer.unref();
  return {
    schedule,
    counts,
    async stop() {
      state.isStopped = true;
      clearInterval(timer);
      await running;
    },
  };
}

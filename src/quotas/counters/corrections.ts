import { setTimeout as wait } from "node:timers/promises";
import type { Logger } from "pino";
import type { Meter } from "./engine.ts";

export interface CorrectionsOptions {
  /** Drops a meter, so that the next request rebuilds it from the ledger. */
  readonly forget: (meter: Meter) => Promise<void>;
  readonly logger: Logger;
  readonly retryMs?: number;
}

export interface Corrections {
  /**
   * Drops a meter that may be wrong, now or as soon as the counters answer: the ledger contradicts it, the reply to a
   * settlement was lost, or a settlement was written late. Resolves when no meter waits any more, or after stop().
   */
  correct(meter: Meter): Promise<void>;
  /** Ends all retries. */
  stop(): void;
  /** Returns how many meters were dropped. */
  count(): number;
}

/**
 * Drops wrong meters. A failed attempt is repeated: a Redis that was out of reach keeps its run id, so its wrong counters
 * would be trusted again. A failure is logged once, however many meters wait.
 */
export function createCorrections({ forget, logger, retryMs = 1000 }: CorrectionsOptions): Corrections {
  const waiting = new Map<string, Meter>();
  let running: Promise<void> | undefined;
  let isStopped = false;
  let corrected = 0;

  /** Drops the meters that wait, and waits before those that failed are tried again. */
  async function dropAll(): Promise<void> {
    for (let isFailing = false; waiting.size > 0; ) {
      const meters = [...waiting];
      waiting.clear();
      const results = await Promise.allSettled(meters.map(([, meter]) => forget(meter)));
      const failed = meters.filter((_meter, index) => results[index]?.status === "rejected");
      corrected += meters.length - failed.length;
      const failure = results.find((result) => result.status === "rejected");
      if (failure !== undefined && !isFailing) {
        logger.warn({ err: failure.reason, meters: failed.length }, "counters not corrected");
      }
      isFailing = failure !== undefined;
      if (isFailing) await wait(retryMs, undefined, { ref: false });
      if (isStopped) break;
      for (const [key, meter] of failed) waiting.set(key, meter);
    }
    running = undefined;
  }

  return {
    correct(meter) {
      waiting.set([meter.userId, meter.service, meter.methodGroup].join("/"), meter);
      return (running ??= dropAll());
    },
    stop() {
      isStopped = true;
    },
    count: () => corrected,
  };
}

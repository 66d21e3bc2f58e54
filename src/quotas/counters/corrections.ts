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
  /** Drops a meter that the ledger contradicts, now or as soon as the counters answer. */
  correct(meter: Meter): Promise<void>;
  /** Ends all retries. */
  stop(): void;
  /** Returns how many meters were dropped. */
  count(): number;
}

/**
 * Drops wrong meters. A failed attempt is repeated: a Redis that was out of reach keeps its run id, so its wrong counters
 * would be trusted again. Each meter waits for at most one retry.
 */
export function createCorrections({ forget, logger, retryMs = 1000 }: CorrectionsOptions): Corrections {
  const waiting = new Set<string>();
  let isStopped = false;
  let corrected = 0;

  return {
    async correct(meter) {
      const key = [meter.userId, meter.service, meter.methodGroup].join("/");
      for (;;) {
        try {
          await forget(meter);
          corrected += 1;
          return;
        } catch (error) {
          logger.warn({ err: error, meter }, "counters not corrected");
        }
        if (isStopped || waiting.has(key)) return;
        waiting.add(key);
        await wait(retryMs, undefined, { ref: false });
        waiting.delete(key);
      }
    },
    stop() {
      isStopped = true;
    },
    count: () => corrected,
  };
}

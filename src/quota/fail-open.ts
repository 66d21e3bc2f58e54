import { setImmediate as nextTurn } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Counters } from "./counters/counters.ts";
import type { SharedEngine } from "./engine-generation.ts";

export interface FailOpenOptions {
  /** Those of all servers. */
  readonly shared: Counters;
  readonly engine: Pick<SharedEngine, "reach" | "renew">;
  /** Makes counters of this server alone, empty ones: what the ledger knows is where they begin. */
  readonly createOwn: () => Counters;
  readonly logger: Logger;
}

/** How often Redis is looked for while it is away. */
const lookEveryMs = 250;

/**
 * Counts in this server alone while Redis is out of reach, from what the ledger knows: each server grants what is left
 * by itself, so that together they may grant more than a limit. All of it goes to the ledger, marked; when Redis is
 * back, everything is counted anew from there, and so is charged.
 */
export function createFailOpenCounters({ shared, engine, createOwn, logger }: FailOpenOptions): Counters {
  let own: Counters | undefined;
  let returning: Promise<void> | undefined;
  const running = new Set<Promise<unknown>>();

  async function askOwn(counters: Counters, ...[asks, hear]: Parameters<Counters["ask"]>) {
    const asking = counters.ask(asks, (answer, index) => hear?.({ ...answer, degraded: true }, index));
    running.add(asking);
    const answers = await asking.finally(() => running.delete(asking));
    return answers.map((answer) => ({ ...answer, degraded: true }));
  }

  /** Nobody is answered meanwhile: what was granted here is in the ledger before anybody counts from it. */
  async function goBack(): Promise<void> {
    await Promise.allSettled(running);
    await nextTurn();
    await engine.renew();
    own = undefined;
    logger.info("Redis is back: everything is counted anew");
  }

  function goAway(cause: unknown): Counters {
    logger.warn({ err: cause }, "Redis is out of reach: this server counts by itself");
    // Also while nobody asks: others wait to hear of what was granted here.
    const timer = setInterval(() => {
      if (own === undefined) clearInterval(timer);
      else void look().catch(() => undefined);
    }, lookEveryMs);
    timer.unref();
    return createOwn();
  }

  async function look(): Promise<void> {
    if (returning !== undefined) return;
    await engine.reach();
    returning ??= goBack()
      .catch((error: unknown) => logger.warn({ err: error }, "Redis answers, but cannot be counted in yet"))
      .finally(() => {
        returning = undefined;
      });
  }

  return {
    async ask(asks, hear) {
      await returning;
      if (own === undefined) {
        try {
          return await shared.ask(asks, hear);
        } catch (error) {
          // An error of PostgreSQL is none of the counters': what is warm in Redis goes on there.
          if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) throw error;
          own ??= goAway(error);
        }
        // While this one waited for Redis, others may have found it.
        await returning;
      }
      return own === undefined ? shared.ask(asks, hear) : askOwn(own, asks, hear);
    },
    forget: (meter) => (own ?? shared).forget(meter),
  };
}

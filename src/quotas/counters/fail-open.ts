import { setImmediate as nextTurn, setTimeout as wait } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Counters } from "./counters.ts";
import type { SharedEngine } from "./generation.ts";

export interface FailOpenOptions {
  /** Those of all servers. */
  readonly shared: Counters;
  readonly engine: Pick<SharedEngine, "ping" | "readGeneration" | "raiseGeneration">;
  /** Makes counters of this server alone, empty ones: what the ledger knows is where they begin. */
  readonly createOwn: () => Counters;
  /** Resolves when everything that was granted is in the ledger. */
  readonly flush: () => Promise<void>;
  /** Asks every server to stop counting by itself; resolves when they have, or cannot now. */
  readonly recall: () => Promise<void>;
  readonly logger: Logger;
}

export interface FailOpenCounters extends Counters {
  /**
   * Stops counting in this server alone, if it does and Redis and PostgreSQL answer. Resolves when nothing is granted
   * here and everything that was is in the ledger.
   * @throws what Redis or PostgreSQL throws: this server goes on by itself
   */
  leaveFailOpen(): Promise<void>;
}

/** How often Redis is looked for while it is away. */
const lookEveryMs = 250;
/** How long callers wait for the ledger on the way back, before this server goes on by itself. */
const flushLimitMs = 2000;

/**
 * Counts in this server alone while Redis is out of reach, from what the ledger knows: each server grants what is left
 * by itself, so that together they may grant more than a limit. All of it goes to the ledger, marked; when Redis is
 * back, everything is counted again from there, and so is charged.
 *
 * Servers come back together. The first to find Redis recalls the others; each stops, writes what it has granted, and
 * reads the generation. The first to raise that generation raises it for all: **it is raised after every recalled server
 * has written, so what is counted under it holds every grant.** A server that was not recalled reads the raised
 * generation when it stops, and raises it once more.
 */
export function createFailOpenCounters(options: FailOpenOptions): FailOpenCounters {
  const { shared, engine, createOwn, flush, recall, logger } = options;
  let own: Counters | undefined;
  /** The generation that was seen after this server had stopped. */
  let stopping: Promise<number> | undefined;
  /** Callers wait meanwhile. */
  let returning: Promise<void> | undefined;
  const wayBack = () => returning;
  const running = new Set<Promise<unknown>>();

  async function askOwn(counters: Counters, ...[asks, onAnswer]: Parameters<Counters["execute"]>) {
    const asking = counters.execute(asks, (answer, ...rest) => onAnswer?.({ ...answer, degraded: true }, ...rest));
    running.add(asking);
    const answers = await asking.finally(() => running.delete(asking));
    return answers.map((answer) => ({ ...answer, degraded: true }));
  }

  function goAway(cause: unknown): Counters {
    logger.warn({ err: cause }, "Redis is out of reach: this server counts by itself");
    // Also while no caller asks: other servers wait for what was granted here.
    const timer = setInterval(() => {
      if (own === undefined) clearInterval(timer);
      else void comeBack(recall).catch(() => undefined);
    }, lookEveryMs);
    timer.unref();
    return createOwn();
  }

  /** @param gather stops the other servers before the generation is raised */
  async function comeBack(gather: () => Promise<void>): Promise<void> {
    if (own !== undefined && returning === undefined) {
      await engine.ping();
      // Callers do not wait for a PostgreSQL that is away.
      await engine.readGeneration();
      if (own !== undefined && returning === undefined) {
        stopping = stop();
        returning = goBack(stopping, gather).catch((error: unknown) =>
          logger.warn({ err: error }, "Redis answers, but cannot be counted in yet"),
        );
        returning = returning.finally(() => {
          returning = undefined;
        });
      }
    }
    if (returning !== undefined) await stopping;
  }

  async function stop(): Promise<number> {
    await Promise.allSettled(running);
    await nextTurn();
    await Promise.race([flush(), failAfter(flushLimitMs)]);
    return engine.readGeneration();
  }

  async function goBack(stopped: Promise<number>, gather: () => Promise<void>): Promise<void> {
    const generation = await stopped;
    await gather();
    await engine.raiseGeneration(generation);
    own = undefined;
    logger.info("Redis is back: everything is counted again");
  }

  return {
    async execute(asks, onAnswer) {
      // A loop, and no await behind it: what is granted here is among `running` before this server stops.
      for (let back = wayBack(); back !== undefined; back = wayBack()) await back;
      if (own === undefined) {
        try {
          return await shared.execute(asks, onAnswer);
        } catch (error) {
          // An error of PostgreSQL is none of the counters': what is warm in Redis goes on there.
          if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) throw error;
          own ??= goAway(error);
        }
        // While this one waited for Redis, others may have found it.
        for (let back = wayBack(); back !== undefined; back = wayBack()) await back;
      }
      return own === undefined ? shared.execute(asks, onAnswer) : askOwn(own, asks, onAnswer);
    },
    forget: (meter) => (own ?? shared).forget(meter),
    leaveFailOpen: () => comeBack(async () => undefined),
  };
}

async function failAfter(milliseconds: number): Promise<never> {
  await wait(milliseconds, undefined, { ref: false });
  throw new Error("the ledger was not written in time");
}

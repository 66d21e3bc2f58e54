import { setImmediate as nextTick, setTimeout as wait } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import { createRunningWork } from "../../shared/running-work.ts";
import type { Counters } from "./counters.ts";
import type { SharedEngine } from "./generation.ts";

export interface FailOpenOptions {
  /** The counters that all servers share. */
  readonly shared: Counters;
  readonly engine: Pick<SharedEngine, "ping" | "readGeneration" | "raiseGeneration">;
  /** Creates empty counters for this server alone. They are primed from the ledger. */
  readonly createOwn: () => Counters;
  /** Resolves when every grant of this server is committed to the ledger. */
  readonly flush: () => Promise<void>;
  /** Asks every server to stop counting by itself. Resolves when each has stopped or cannot stop now. */
  readonly recall: () => Promise<unknown>;
  readonly logger: Logger;
}

export interface FailOpenCounters extends Counters {
  /**
   * Stops counting in this server alone if Redis and PostgreSQL answer. Does nothing outside fail-open. Resolves when this
   * server grants nothing more and its grants are committed.
   * @throws the error of Redis or PostgreSQL, and stays in fail-open
   */
  leaveFailOpen(): Promise<void>;
  /** Whether this server counts alone now. */
  isAlone(): boolean;
}

/** The interval of probes while Redis is unavailable. */
const probeIntervalMs = 250;
/** How long callers wait for the flush of the ledger. After that this server stays in fail-open. */
const flushLimitMs = 2000;

/**
 * Creates counters that fail open: while Redis is unavailable, this server counts alone, from the ledger. Each server
 * grants what is left by itself, so together they may exceed a limit. Such grants go to the ledger, marked as degraded.
 * When Redis is back, the counters are rebuilt from the ledger, so every grant is charged.
 *
 * Servers return together. The first that reaches Redis recalls the others. Each stops, flushes its grants and reads the
 * generation. The first to raise the generation raises it for all. **That happens after every recalled server has flushed,
 * so counters of the new generation hold every grant.** A server that was not recalled reads the raised generation when it
 * stops, and raises it again.
 */
export function createFailOpenCounters(options: FailOpenOptions): FailOpenCounters {
  const { shared, engine, createOwn, flush, recall, logger } = options;
  let ownCounters: Counters | undefined;
  /** Resolves to the generation that was read after this server stopped. */
  let stopping: Promise<number> | undefined;
  /** The return to the shared counters. Callers wait for it. */
  let returning: Promise<void> | undefined;
  const pendingReturn = () => returning;
  const running = createRunningWork();

  async function executeOwn(counters: Counters, ...[requests, onAnswer]: Parameters<Counters["execute"]>) {
    const execution = counters.execute(requests, (answer, ...rest) =>
      onAnswer?.({ ...answer, degraded: true }, ...rest),
    );
    const answers = await running.track(execution);
    return answers.map((answer) => ({ ...answer, degraded: true }));
  }

  function enterFailOpen(cause: unknown): Counters {
    logger.warn({ err: cause }, "redis unavailable, counting in this server alone");
    // Probes run without callers too: other servers wait for the grants of this one.
    const timer = setInterval(() => {
      if (ownCounters === undefined) clearInterval(timer);
      else void leave(recall).catch(() => undefined);
    }, probeIntervalMs);
    timer.unref();
    return createOwn();
  }

  /** @param gather stops the other servers before the generation is raised */
  async function leave(gather: () => Promise<unknown>): Promise<void> {
    if (ownCounters !== undefined && returning === undefined) {
      await engine.ping();
      // Checked first, so that callers do not wait for an unavailable PostgreSQL.
      await engine.readGeneration();
      if (ownCounters !== undefined && returning === undefined) {
        stopping = stop();
        returning = returnToShared(stopping, gather).catch((error: unknown) =>
          logger.warn({ err: error }, "redis reached, return to shared counters failed"),
        );
        returning = returning.finally(() => {
          returning = undefined;
        });
      }
    }
    if (returning !== undefined) await stopping;
  }

  async function stop(): Promise<number> {
    await running.ended();
    await nextTick();
    await Promise.race([flush(), failAfter(flushLimitMs)]);
    return engine.readGeneration();
  }

  async function returnToShared(stopped: Promise<number>, gather: () => Promise<unknown>): Promise<void> {
    const generation = await stopped;
    await gather();
    await engine.raiseGeneration(generation);
    ownCounters = undefined;
    logger.info("redis connection restored, counters are rebuilt");
  }

  return {
    async execute(requests, onAnswer) {
      // No await may follow this loop: the execution must be tracked before this server stops.
      for (let back = pendingReturn(); back !== undefined; back = pendingReturn()) await back;
      if (ownCounters === undefined) {
        try {
          return await shared.execute(requests, onAnswer);
        } catch (error) {
          // Only UNAVAILABLE is a fault of the counters. After an error of PostgreSQL, warm meters stay in Redis.
          if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) throw error;
          ownCounters ??= enterFailOpen(error);
        }
        // Another call may have begun the return while this one waited for Redis.
        for (let back = pendingReturn(); back !== undefined; back = pendingReturn()) await back;
      }
      return ownCounters === undefined
        ? shared.execute(requests, onAnswer)
        : executeOwn(ownCounters, requests, onAnswer);
    },
    forget: (meter) => (ownCounters ?? shared).forget(meter),
    leaveFailOpen: () => leave(async () => undefined),
    isAlone: () => ownCounters !== undefined,
  };
}

async function failAfter(milliseconds: number): Promise<never> {
  await wait(milliseconds, undefined, { ref: false });
  throw new Error("the ledger was not flushed in time");
}

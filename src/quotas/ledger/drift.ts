import { Cluster, type Redis } from "ioredis";
import type { Logger } from "pino";
import type { Database } from "../../postgres/database.ts";
import { compareMeters, findMeterPattern } from "./verify-counters.ts";

export interface DriftOptions {
  readonly database: Database;
  readonly redis: Redis | Cluster;
  readonly logger: Logger;
  /** The time from one check to the next. */
  readonly intervalMs: number;
}

export interface DriftCheck {
  /** Meters whose counters differ from the ledger, as the last check saw them. */
  differing(): number;
  readonly counts: DriftCounts;
  /** Resolves when the check that runs now has ended. */
  stop(): Promise<void>;
}

/** The checks since the start. */
export interface DriftCounts {
  completed: number;
  failed: number;
  /** Meters that were compared. */
  compared: number;
}

/** Meters of one check, besides those that differed before. */
const sampleSize = 20;
/** The most meters that are compared again because they differed before. */
const maxKnown = 100;

/**
 * Compares a few meters in Redis with the ledger at every interval, in turn, so that every meter has its turn in time. A
 * meter that differs is logged, and is compared at every check until it agrees. It changes nothing.
 */
export function startDriftCheck({ database, redis, logger, intervalMs }: DriftOptions): DriftCheck {
  const counts: DriftCounts = { completed: 0, failed: 0, compared: 0 };
  const known = new Set<string>();
  const nextKeys = createSampler(redis);
  let isStopped = false;
  let isFailing = false;
  let running = Promise.resolve();

  async function check(): Promise<void> {
    const pattern = await findMeterPattern(database);
    if (pattern === undefined) return;
    const keys = new Set([...known, ...(await nextKeys(pattern))]);
    const differences = await compareMeters(database, redis, [...keys]);
    counts.compared += keys.size;
    for (const [key, difference] of differences) {
      if (known.has(key)) continue;
      logger.error({ difference }, "counters differ from the ledger");
      if (known.size < maxKnown) known.add(key);
    }
    for (const key of known) {
      if (differences.has(key)) continue;
      known.delete(key);
      logger.info({ meter: key }, "counters agree with the ledger again");
    }
  }

  async function run(): Promise<void> {
    try {
      await check();
      counts.completed += 1;
      isFailing = false;
    } catch (error) {
      counts.failed += 1;
      // One line, however long Redis or PostgreSQL is away.
      if (!isStopped && !isFailing) logger.warn({ err: error }, "comparison of counters with the ledger failed");
      isFailing = true;
    }
    if (!isStopped) timer = schedule();
  }

  const schedule = () =>
    setTimeout(() => {
      running = run();
    }, intervalMs).unref();
  let timer = schedule();

  return {
    differing: () => known.size,
    counts,
    async stop() {
      isStopped = true;
      clearTimeout(timer);
      await running;
    },
  };
}

/** The most SCAN commands of one check: other programs may have many keys in the same Redis. */
const maxScans = 50;
const scanCount = 100;

/** Returns a function that returns the next keys of a pattern, and begins again after the last. */
function createSampler(redis: Redis | Cluster): (pattern: string) => Promise<string[]> {
  const found: string[] = [];
  let place = { node: 0, cursor: "0" };

  return async (pattern) => {
    const nodes = redis instanceof Cluster ? redis.nodes("master") : [redis];
    for (let scans = 0; scans < maxScans && found.length < sampleSize; scans += 1) {
      const node = nodes[place.node % nodes.length];
      if (node === undefined) break;
      const [cursor, keys] = await node.scan(place.cursor, "MATCH", pattern, "COUNT", scanCount);
      found.push(...keys);
      place = cursor === "0" ? { node: (place.node + 1) % nodes.length, cursor } : { ...place, cursor };
      const isRound = place.node === 0 && cursor === "0";
      if (isRound) break;
    }
    return found.splice(0, sampleSize);
  };
}

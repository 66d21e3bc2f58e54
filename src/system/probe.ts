import type { Cluster, Redis } from "ioredis";
import type { Database } from "../postgres/database.ts";

/**
 * How well the service works: 1 with everything, 0.5 without Redis.
 * @throws UNAVAILABLE without the database
 */
export type HealthProbe = () => Promise<number>;

export interface ProbeOptions {
  /** Connections that the ledger and authenticated calls do not use. */
  readonly database: Database;
  /** Undefined where the installation has none. */
  readonly redis: Redis | Cluster | undefined;
  /** Milliseconds that only go forward. */
  readonly now: () => number;
}

const intervalMs = 1000;

/** Asks the database and Redis once a second at most, however often it is asked: everyone is public here. */
export function createHealthProbe({ database, redis, now }: ProbeOptions): HealthProbe {
  let latest: Promise<number> | undefined;
  let askedMs = 0;
  let isUnderWay = false;

  async function ask(): Promise<number> {
    // Without the database nothing works: the failure is the answer.
    await database.raw("select 1");
    // Without Redis the service goes on, at half its worth.
    const answers = redis === undefined || (await redis.ping().then(Boolean, () => false));
    return answers ? 1 : 0.5;
  }

  return () => {
    if (latest !== undefined && (isUnderWay || now() - askedMs < intervalMs)) return latest;
    askedMs = now();
    isUnderWay = true;
    latest = ask().finally(() => {
      isUnderWay = false;
    });
    return latest;
  };
}

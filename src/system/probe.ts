import type { Cluster, Redis } from "ioredis";
import type { Database } from "../postgres/database.ts";
import { checkConnection } from "../postgres/statements.ts";

/**
 * Returns the health: 1 when all dependencies respond, 0.5 when Redis does not.
 * @throws the database error when the database does not respond
 */
export type HealthProbe = () => Promise<number>;

export interface ProbeOptions {
  /** Connections that the ledger and authenticated calls do not use. */
  readonly database: Database;
  /** Undefined when Redis is not configured. */
  readonly redis: Redis | Cluster | undefined;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

const intervalMs = 1000;

/** Creates a probe that checks the database and Redis at most once per second: the RPC is public. */
export function createHealthProbe({ database, redis, now }: ProbeOptions): HealthProbe {
  let latest: Promise<number> | undefined;
  let startedMs = 0;
  let isRunning = false;

  async function check(): Promise<number> {
    // The service cannot work without the database.
    await checkConnection(database);
    // The service works without Redis, but may refuse quota requests.
    const hasRedis = redis === undefined || (await redis.ping().then(Boolean, () => false));
    return hasRedis ? 1 : 0.5;
  }

  return () => {
    if (latest !== undefined && (isRunning || now() - startedMs < intervalMs)) return latest;
    startedMs = now();
    isRunning = true;
    latest = check().finally(() => {
      isRunning = false;
    });
    return latest;
  };
}

import { createHash } from "node:crypto";
import type { Redis } from "ioredis";
import { type RateLimiterAbstract, RateLimiterPostgres, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import { tooMany } from "../core/errors.ts";
import type { Database } from "../storage/database.ts";

/** Slows down the guessing of passwords, over all replicas together. */
export interface LoginThrottle {
  /** Counts a try before its password is looked at, so that many at once cannot outrun the count; 429 past the limit. */
  enter(username: string, address: string): Promise<void>;
  /** The try was not looked at: it did not count. */
  forget(username: string, address: string): Promise<void>;
  /** The password was right: this try did not count, and the name is free again from this address. */
  succeed(username: string, address: string): Promise<void>;
}

export interface ThrottleLimits {
  /** Failures of one name from one address in a window. Counting by both lets nobody lock out somebody else. */
  readonly byNameAndAddress: number;
  /** Failures from one address in a window, whatever the names. */
  readonly byAddress: number;
  readonly windowSeconds: number;
}

/** Where failures are counted: in Redis where there is one, in PostgreSQL without it and while it does not answer. */
export interface ThrottleStores {
  readonly database: Database;
  readonly redis: Redis | undefined;
}

export function createLoginThrottle(stores: ThrottleStores, limits: ThrottleLimits): LoginThrottle {
  const pairs = createLimiter(stores, "pair", limits.byNameAndAddress, limits.windowSeconds);
  const addresses = createLimiter(stores, "address", limits.byAddress, limits.windowSeconds);

  return {
    enter: async (username, address) => {
      await take(addresses, address);
      await take(pairs, pairKey(username, address)).catch(async (error: unknown) => {
        await addresses.reward(address);
        throw error;
      });
    },
    forget: async (username, address) => {
      await Promise.all([addresses.reward(address), pairs.reward(pairKey(username, address))]);
    },
    succeed: async (username, address) => {
      await Promise.all([addresses.reward(address), pairs.delete(pairKey(username, address))]);
    },
  };
}

function createLimiter({ database, redis }: ThrottleStores, kind: string, points: number, duration: number) {
  const limits = { keyPrefix: `tollgate_login_${kind}`, points, duration };
  const inDatabase = new RateLimiterPostgres({
    ...limits,
    storeClient: database,
    storeType: "knex",
    tableName: "login_attempt",
    tableCreated: true,
    clearExpiredByTimeout: true,
  });
  return redis === undefined
    ? inDatabase
    : new RateLimiterRedis({ ...limits, storeClient: redis, insuranceLimiter: inDatabase });
}

async function take(limiter: RateLimiterAbstract, key: string): Promise<void> {
  try {
    await limiter.consume(key);
  } catch (error) {
    if (!(error instanceof RateLimiterRes)) throw error;
    throw tooMany("too many failed logins; wait", error.msBeforeNext);
  }
}

/** Hashed: the column is shorter than a name and an address, and keeps no names that nobody has. */
function pairKey(username: string, address: string): string {
  return createHash("sha256").update(`${username}\n${address}`).digest("base64");
}

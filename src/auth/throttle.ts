import { createHash } from "node:crypto";
import { isIP } from "node:net";
import type { Cluster, Redis } from "ioredis";
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
  readonly redis: Redis | Cluster | undefined;
}

export function createLoginThrottle(stores: ThrottleStores, limits: ThrottleLimits): LoginThrottle {
  const pairs = createLimiter(stores, "pair", limits.byNameAndAddress, limits.windowSeconds);
  const addresses = createLimiter(stores, "address", limits.byAddress, limits.windowSeconds);

  return {
    enter: async (username, address) => {
      const network = networkOf(address);
      await take(addresses, network);
      await take(pairs, pairKey(username, network)).catch(async (error: unknown) => {
        await addresses.reward(network);
        throw error;
      });
    },
    forget: async (username, address) => {
      const network = networkOf(address);
      await Promise.all([addresses.reward(network), pairs.reward(pairKey(username, network))]);
    },
    succeed: async (username, address) => {
      const network = networkOf(address);
      await Promise.all([addresses.reward(network), pairs.delete(pairKey(username, network))]);
    },
  };
}

/** What one caller has: an IPv4 address, or the 2^64 addresses of an IPv6 network (RFC 6177), all of them one caller. */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined || isIP(address) !== 6) return mapped ?? address;
  const [head = "", tail] = address.split("%")[0]?.split("::") ?? [];
  const groups = head === "" ? [] : head.split(":");
  const last = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = Array.from({ length: Math.max(0, 8 - groups.length - last.length) }, () => "0");
  const network = [...groups, ...zeros, ...last].slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${network.join(":")}::/64`;
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

import { createHash } from "node:crypto";
import type { ConnectError } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import { tooMany } from "../../shared/errors.ts";
import { networkOf } from "./caller-network.ts";
import type { FailureCount, FailureCounts } from "./failure-counts.ts";

/**
 * Limits password guessing over all servers together. Only failed logins count.
 *
 * The limit is checked after the password and before the response: a wrong password increments the count atomically, a
 * right one reads it. Past the limit both get the same refusal, so the response reveals nothing about the password.
 * Concurrent attempts therefore have an outcome that some sequential order also has: only failures up to the limit can be
 * distinguished from a right password, on any number of servers. Right passwords never block each other.
 */
export interface LoginThrottle {
  /** Returns the refusal when this server knows that a limit is reached. Reads memory only. */
  refusalOf(username: string, address: string): ConnectError | undefined;
  /**
   * Counts a failed login with one write.
   * @throws LOGIN_LOCKED past the limit
   */
  fail(username: string, address: string): Promise<void>;
  /**
   * Resets the failures of the username from this address. Writes only if there are any.
   * @throws LOGIN_LOCKED when the limit is reached: a right password is refused like a wrong one
   */
  succeed(username: string, address: string): Promise<void>;
}

export interface ThrottleLimits {
  /** Failures of one username from one address in a window. Counting by both prevents locking out another user. */
  readonly byNameAndAddress: number;
  /** Failures from one address in a window, for all usernames. */
  readonly byAddress: number;
  readonly windowMs: number;
}

/** A lock is cached for this long. An operator who deletes a count unlocks the login after it. */
const trustedMs = 30_000;
/** Maximum number of locked names and addresses in the cache. The shared counts hold all. */
const maxBlocked = 50_000;

/** @param now milliseconds since the epoch */
export function createLoginThrottle(counts: FailureCounts, limits: ThrottleLimits, now: () => number): LoginThrottle {
  const blocked = new LRUCache<string, { readonly endMs: number; readonly trustedUntilMs: number }>({
    max: maxBlocked,
  });

  /** Returns the keys to count and their limits: the address first. */
  function limitsOf(username: string, address: string): [key: string, limit: number][] {
    const network = networkOf(address);
    const tag = `tollgate_login:{${network}}`;
    return [
      [tag, limits.byAddress],
      [`${tag}:${hashOf(username)}`, limits.byNameAndAddress],
    ];
  }

  /** Caches the keys at their limit. Returns the latest end of a window that was at its limit before this attempt, or 0. */
  function blockedUntil(
    keys: readonly (readonly [key: string, limit: number])[],
    found: readonly FailureCount[],
    own: 0 | 1,
  ) {
    let untilMs = 0;
    for (const [index, [key, limit]] of keys.entries()) {
      const { failures, endMs } = found[index] as FailureCount;
      if (failures >= limit) blocked.set(key, { endMs, trustedUntilMs: Math.min(endMs, now() + trustedMs) });
      if (failures - own >= limit) untilMs = Math.max(untilMs, endMs);
    }
    return untilMs;
  }

  function refuse(untilMs: number): ConnectError {
    return tooMany("LOGIN_LOCKED", "too many failed logins; retry later", Math.max(1, untilMs - now()));
  }

  return {
    refusalOf(username, address) {
      const known = limitsOf(username, address).flatMap(([key]) => blocked.get(key) ?? []);
      const current = known.filter(({ trustedUntilMs }) => trustedUntilMs > now());
      return current.length === 0 ? undefined : refuse(Math.max(...current.map(({ endMs }) => endMs)));
    },
    async fail(username, address) {
      const keys = limitsOf(username, address);
      const found = await counts.add(
        keys.map(([key]) => key),
        limits.windowMs,
      );
      const untilMs = blockedUntil(keys, found, 1);
      if (untilMs > 0) throw refuse(untilMs);
    },
    async succeed(username, address) {
      const keys = limitsOf(username, address);
      const found = await counts.read(keys.map(([key]) => key));
      const untilMs = blockedUntil(keys, found, 0);
      if (untilMs > 0) throw refuse(untilMs);
      const [pair] = keys[1] ?? [];
      if (pair !== undefined && (found[1]?.failures ?? 0) > 0) await counts.forget(pair);
    },
  };
}

/** Hashed: a key has a fixed length, and an unknown username, perhaps a password, is not stored. */
function hashOf(username: string): string {
  return createHash("sha256").update(username).digest("base64url");
}

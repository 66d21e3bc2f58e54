import { createHash } from "node:crypto";
import type { ConnectError } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import { tooMany } from "../../shared/errors.ts";
import { networkOf } from "./caller-network.ts";
import type { FailureCount, FailureCounts } from "./failure-counts.ts";

/**
 * Limits the guessing of passwords, over all servers together. Only failed logins count.
 *
 * A try is decided when its password has been checked, before it is answered: a wrong one counts itself, atomically,
 * and a right one reads the count. Past the limit both are refused alike, so an answer tells nothing of the password.
 * Every outcome is therefore one that the same tries could have had one after the other: however many run at once, on
 * however many servers, only the first failures up to the limit are told apart from a right password; and right ones
 * never get in each other's way.
 */
export interface LoginThrottle {
  /** The refusal of a caller whose limit is known here to be reached. Memory alone: it costs nothing. */
  refusalOf(username: string, address: string): ConnectError | undefined;
  /**
   * Counts a failed login: one write.
   * @throws RESOURCE_EXHAUSTED past the limit
   */
  fail(username: string, address: string): Promise<void>;
  /**
   * Forgets the name's failures from this address. Writes nothing where there are none.
   * @throws RESOURCE_EXHAUSTED when the limit was reached: the right password is refused like a wrong one
   */
  succeed(username: string, address: string): Promise<void>;
}

export interface ThrottleLimits {
  /** Failures of one name from one address in a window. Counting by both lets nobody lock out somebody else. */
  readonly byNameAndAddress: number;
  /** Failures from one address in a window, whatever the names. */
  readonly byAddress: number;
  readonly windowMs: number;
}

/** Whoever forgives a name or an address, by removing its count, is heeded after that. */
const trustedMs = 30_000;
/** How many names and addresses whose limit is reached are remembered here; the counts know all of them. */
const maxBlocked = 50_000;

/** @param now milliseconds since the epoch */
export function createLoginThrottle(counts: FailureCounts, limits: ThrottleLimits, now: () => number): LoginThrottle {
  const blocked = new LRUCache<string, { readonly endMs: number; readonly trustedUntilMs: number }>({
    max: maxBlocked,
  });

  /** What is counted, and how far: the address first. */
  function limitsOf(username: string, address: string): [key: string, limit: number][] {
    const network = networkOf(address);
    const tag = `tollgate_login:{${network}}`;
    return [
      [tag, limits.byAddress],
      [`${tag}:${hashOf(username)}`, limits.byNameAndAddress],
    ];
  }

  /** Remembers the keys whose limit is reached. Returns when the last of those ends that had reached it before. */
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
    return tooMany("LOGIN_LOCKED", "too many failed logins; wait", Math.max(1, untilMs - now()));
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

/** The stored key is shorter than a name, and keeps no names that nobody has. */
function hashOf(username: string): string {
  return createHash("sha256").update(username).digest("base64url");
}

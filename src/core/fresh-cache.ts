import { LRUCache } from "lru-cache";

export interface FreshCache<Value extends object> {
  /** The value, at most 5 seconds old; undefined where there is none. An older one while it cannot be loaded. */
  get(key: string): Promise<Value | undefined>;
  /** The value if it is at hand: no promise, no wait. */
  peek(key: string): Value | undefined;
  /** The next to ask reads again. */
  forget(key: string): void;
  forgetAll(): void;
}

export interface FreshCacheOptions<Value extends object> {
  readonly load: (key: string) => Promise<Value | undefined>;
  /** How many are kept; the one that was not asked for longest goes first. */
  readonly max: number;
  /** Told when a value is no longer kept. */
  readonly onForget?: (value: Value) => void;
}

const freshMs = 5000;
/** A value in use is read again before it must be, so that its users do not wait. */
const refreshMs = 3000;

/**
 * What is read far more often than it changes. Whoever changes it tells (forget); that a message may be lost is why
 * nothing is used for more than five seconds. While it cannot be read again, as when the database is down, the old
 * value serves on.
 */
export function createFreshCache<Value extends object>(options: FreshCacheOptions<Value>): FreshCache<Value> {
  const { load, max, onForget } = options;
  const cache = new LRUCache<string, Value>({
    max,
    ttl: freshMs,
    // Its own clock ticks by the millisecond: a reading for every get would be most of its cost.
    ttlResolution: 50,
    allowStaleOnFetchRejection: true,
    fetchMethod: (key) => load(key),
    ...(onForget && {
      dispose: (value: Value, _key: string, reason: string) => void (reason !== "set" && onForget(value)),
    }),
  });

  function peek(key: string): Value | undefined {
    const value = cache.get(key);
    if (value !== undefined && cache.getRemainingTTL(key) < freshMs - refreshMs) {
      // A failure leaves the value as it is, and is met by the one who has to wait.
      cache.fetch(key, { forceRefresh: true, allowStale: true }).catch(() => undefined);
    }
    return value;
  }

  return {
    peek,
    async get(key) {
      return peek(key) ?? cache.fetch(key);
    },
    forget: (key) => void cache.delete(key),
    forgetAll: () => cache.clear(),
  };
}

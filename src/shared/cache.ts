import { LRUCache } from "lru-cache";

export interface FreshCache<Value extends object> {
  /**
   * The value, at most 5 seconds old; undefined where there is none. An older one while it cannot be loaded.
   * @throws what loading throws, where there is no older one
   */
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
  /** Milliseconds that only go forward; tests move them. */
  readonly now?: () => number;
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
  const { load, max, onForget, now } = options;
  // Its own loading takes a failure, and a value forgotten on the way, for one that is not there.
  const loading = new Map<string, Promise<Value | undefined>>();
  const cache = new LRUCache<string, Value>({
    max,
    ttl: freshMs,
    // Its own clock ticks by the millisecond: a reading for every get would be most of its cost.
    ttlResolution: 50,
    // What is too old is needed when it cannot be loaded.
    noDeleteOnStaleGet: true,
    ...(now && { perf: { now } }),
    ...(onForget && {
      dispose: (value: Value, _key: string, reason: string) => void (reason !== "set" && onForget(value)),
    }),
  });

  function peek(key: string): Value | undefined {
    const value = cache.get(key);
    if (value !== undefined && cache.getRemainingTTL(key) < freshMs - refreshMs) reload(key).catch(() => undefined);
    return value;
  }

  function reload(key: string): Promise<Value | undefined> {
    const known = loading.get(key);
    if (known !== undefined) return known;
    // Who was told to forget meanwhile keeps nothing of it.
    const isCurrent = (): boolean => loading.get(key) === reloading;
    const reloading: Promise<Value | undefined> = load(key)
      .then(
        (value) => {
          if (isCurrent() && value === undefined) cache.delete(key);
          else if (isCurrent() && value !== undefined) cache.set(key, value);
          return value;
        },
        (error: unknown) => {
          const old = isCurrent() ? cache.get(key, { allowStale: true }) : undefined;
          if (old === undefined) throw error;
          // As if it were new: not everybody waits for the next attempt.
          cache.set(key, old);
          return old;
        },
      )
      .finally(() => void (isCurrent() && loading.delete(key)));
    loading.set(key, reloading);
    return reloading;
  }

  return {
    peek,
    async get(key) {
      return peek(key) ?? reload(key);
    },
    forget(key) {
      loading.delete(key);
      cache.delete(key);
    },
    forgetAll() {
      loading.clear();
      cache.clear();
    },
  };
}

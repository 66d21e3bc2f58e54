import { LRUCache } from "lru-cache";

export interface FreshCache<Value extends object> {
  /**
   * Returns the value, at most 5 seconds old, or undefined when `load` finds none. Returns an older value when loading
   * fails.
   * @throws the error of `load` when there is no older value
   */
  get(key: string): Promise<Value | undefined>;
  /** Returns the cached value if it is fresh, without I/O. */
  peek(key: string): Value | undefined;
  /** Invalidates the entry: the next get loads it again. A load in progress is not cached. */
  forget(key: string): void;
  forgetAll(): void;
  readonly uses: CacheUses;
}

/** How often a cache was asked. */
export interface CacheUses {
  /** Lookups that found a fresh value. */
  hits: number;
  /** Lookups that waited for a load. */
  misses: number;
}

export interface FreshCacheOptions<Value extends object> {
  readonly load: (key: string) => Promise<Value | undefined>;
  /** Maximum number of entries. The least recently used entry is evicted first. */
  readonly max: number;
  /** Called when a value leaves the cache and no newer one replaces it. */
  readonly onForget?: (value: Value) => void;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
}

const freshMs = 5000;
/** A value in use is reloaded after this time, before it expires, so that its users do not wait. */
const refreshMs = 3000;

/**
 * Creates a cache for values that are read far more often than they change. Writers invalidate entries with `forget`.
 * An invalidation can be lost, so an entry expires after five seconds. When a reload fails (the database is down), the
 * old value stays in use.
 */
export function createFreshCache<Value extends object>(options: FreshCacheOptions<Value>): FreshCache<Value> {
  const { load, max, onForget, now } = options;
  // Not LRUCache.fetch: it treats a failed load, and an entry that is deleted during the load, as a missing value.
  const loading = new Map<string, Promise<Value | undefined>>();
  const cache = new LRUCache<string, Value>({
    max,
    ttl: freshMs,
    // Reading the clock at every get would be most of its cost.
    ttlResolution: 50,
    // An expired value is needed when the reload fails.
    noDeleteOnStaleGet: true,
    ...(now && { perf: { now } }),
    ...(onForget && {
      dispose: (value: Value, _key: string, reason: string) => void (reason !== "set" && onForget(value)),
    }),
  });

  const uses: CacheUses = { hits: 0, misses: 0 };

  function peek(key: string): Value | undefined {
    const value = cache.get(key);
    if (value !== undefined) uses.hits += 1;
    if (value !== undefined && cache.getRemainingTTL(key) < freshMs - refreshMs) reload(key).catch(() => undefined);
    return value;
  }

  function reload(key: string): Promise<Value | undefined> {
    const pending = loading.get(key);
    if (pending !== undefined) return pending;
    // A load that was invalidated meanwhile must not fill the cache.
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
          // Cached for five seconds more: callers do not wait for every attempt.
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
      const value = peek(key);
      if (value !== undefined) return value;
      uses.misses += 1;
      return reload(key);
    },
    forget(key) {
      loading.delete(key);
      cache.delete(key);
    },
    forgetAll() {
      loading.clear();
      cache.clear();
    },
    uses,
  };
}

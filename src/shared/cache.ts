import { LRUCache } from "lru-cache";

export interface FreshCache<Value extends object> {
  /**
   * Returns the value, or undefined when `load` finds none. A value is fresh for a minute while every change is notified, and
   * for five seconds when changes may go unnoticed. Returns an older value when loading fails.
   * @throws the error of `load` when there is no older value
   */
  get(key: string): Promise<Value | undefined>;
  /** Returns the cached value if it is fresh, without waiting. */
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
  /** How long changes may have gone unnoticed, in milliseconds. 0: every change leads to `forget`. Default: infinite. */
  readonly unnoticedMs?: () => number;
  /** Called after a loaded value was cached. */
  readonly onKeep?: (value: Value) => void;
  /** Called when a value leaves the cache and no newer one replaces it. */
  readonly onForget?: (value: Value) => void;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
}

/** How long a value is fresh while changes may go unnoticed. */
const freshMs = 5000;
/** How long a value is fresh at most, so that an error in the notifications does not last. */
const longestFreshMs = 60_000;
/** A value in use is reloaded after this part of either limit, so that its users do not wait. */
const refreshAfter = 0.6;

/**
 * Returns whether a value is fresh.
 * @param ageMs the time since it was loaded
 * @param unnoticedMs how long changes may have gone unnoticed
 */
export function isFresh(ageMs: number, unnoticedMs: number): boolean {
  return ageMs < longestFreshMs && Math.min(ageMs, unnoticedMs) < freshMs;
}

/**
 * Creates a cache for values that are read far more often than they change. Writers invalidate entries with `forget`.
 * An invalidation can be lost, so an entry expires. When a reload fails (the database is down), the old value stays in use.
 */
export function createFreshCache<Value extends object>(options: FreshCacheOptions<Value>): FreshCache<Value> {
  const { load, max, unnoticedMs = () => Number.POSITIVE_INFINITY, onKeep, onForget, now } = options;
  // Not LRUCache.fetch: it treats a failed load, and an entry that is deleted during the load, as a missing value.
  const loading = new Map<string, Promise<Value | undefined>>();
  const cache = new LRUCache<string, Value>({
    max,
    ttl: longestFreshMs,
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
    if (value === undefined) return undefined;
    const ageMs = longestFreshMs - cache.getRemainingTTL(key);
    const unnoticed = unnoticedMs();
    if (!isFresh(ageMs, unnoticed)) return undefined;
    uses.hits += 1;
    if (!isFresh(ageMs / refreshAfter, unnoticed / refreshAfter)) reload(key).catch(() => undefined);
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
          if (!isCurrent()) return value;
          if (value === undefined) {
            cache.delete(key);
          } else {
            cache.set(key, value);
            onKeep?.(value);
          }
          return value;
        },
        (error: unknown) => {
          const old = isCurrent() ? cache.get(key, { allowStale: true }) : undefined;
          if (old === undefined) throw error;
          // Cached again: callers do not wait for every attempt.
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

/** Bounds the number of open items and how long each stays open. */
export interface OldestEviction {
  /**
   * Adds an item and evicts the oldest when there are too many.
   * @param end called on eviction
   * @returns a function to call when the item has closed by itself
   */
  enter(end: () => void): () => void;
}

/**
 * Admits every new item. A limit that refused the newest would let one client lock out all others.
 * @param limitMs how long an item may stay open; undefined: unlimited
 */
export function createOldestEviction(limit: number, limitMs?: number): OldestEviction {
  const open = new Set<() => void>();
  return {
    enter(end) {
      const timer = limitMs === undefined ? undefined : setTimeout(stop, limitMs);
      open.add(stop);
      if (open.size > limit) open.values().next().value?.();
      return leave;

      function leave(): void {
        clearTimeout(timer);
        open.delete(stop);
      }

      function stop(): void {
        leave();
        end();
      }
    },
  };
}

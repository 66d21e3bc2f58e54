/** Bounds the number of open items and how long each stays open. */
export interface OldestEviction {
  /**
   * Adds an item and evicts the oldest when there are too many.
   * @param end called on eviction
   * @returns a function to call when the item has closed by itself
   */
  enter(end: () => void): () => void;
}

/** An open item, which is empty after it has left. */
interface Item {
  end: (() => void) | undefined;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Admits every new item. A limit that refused the newest would let one client lock out all others.
 * @param limitMs how long an item may stay open; undefined: unlimited
 */
export function createOldestEviction(limit: number, limitMs?: number): OldestEviction {
  const open = new Set<Item>();

  function leave(item: Item): void {
    clearTimeout(item.timer);
    item.timer = undefined;
    // V8 may keep an item that passed through a long-lived Set until the next full garbage collection, so it is emptied.
    item.end = undefined;
    open.delete(item);
  }

  function evict(item: Item): void {
    const { end } = item;
    leave(item);
    end?.();
  }

  return {
    enter(end) {
      const item: Item = { end, timer: undefined };
      if (limitMs !== undefined) item.timer = setTimeout(evict, limitMs, item);
      open.add(item);
      if (open.size > limit) {
        const [oldest] = open;
        if (oldest !== undefined) evict(oldest);
      }
      return () => leave(item);
    },
  };
}

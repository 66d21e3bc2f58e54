/** What may be open at once, in number and time. */
export interface OldestEviction {
  /** Lets one more in, and ends the oldest where there are too many. Returns what to call when it is over. */
  enter(end: () => void): () => void;
}

/**
 * The newest always enters: a limit that refused it would let whoever fills it shut out everybody else.
 * @param limitMs how long each may last; undefined: without end
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

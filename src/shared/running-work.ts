/** Knows the work that runs, so that a caller can wait until all that runs now has ended. */
export interface RunningWork {
  /** Returns the outcome of the work. */
  track<Result>(work: Promise<Result>): Promise<Result>;
  /** Resolves when the work that runs now has ended, however it ends. Does not wait for later work. */
  ended(): Promise<void>;
}

/** Work that began between two calls of ended(). */
interface Round {
  count: number;
  onEnd: () => void;
}

/**
 * Creates an empty record of running work. It only counts: V8 may keep what passed through a long-lived Map or Set
 * until the next full garbage collection, and so the outcome of each piece of work would stay until then.
 */
export function createRunningWork(): RunningWork {
  let current = beginRound();
  let earlier = Promise.resolve();

  return {
    async track(work) {
      const round = current;
      round.count += 1;
      try {
        return await work;
      } finally {
        round.count -= 1;
        if (round.count === 0) round.onEnd();
      }
    },
    ended() {
      const round = current;
      if (round.count === 0) return earlier;
      const before = earlier;
      const end = new Promise<void>((resolve) => (round.onEnd = resolve));
      earlier = before.then(() => end);
      current = beginRound();
      return earlier;
    },
  };
}

function beginRound(): Round {
  return { count: 0, onEnd: () => undefined };
}

export interface PacedRefusals {
  /** Resolves when the refusal may be answered, or when the caller is gone. */
  wait(signal: AbortSignal): Promise<void>;
  /** Answers all that wait, and from now on at once. */
  stop(): void;
}

export interface PacedRefusalsOptions {
  /** How many are answered a second. */
  readonly perSecond?: number;
  /** How many wait at most; more are answered at once. */
  readonly capacity?: number;
}

const tickMs = 50;

/**
 * Answers refused logins no faster than a steady pace. A client that asks again at every answer would otherwise keep the
 * event loop busy with refusals, which are cheap and yet not free. A refusal that waits is a callback in memory.
 */
export function createPacedRefusals({ perSecond = 500, capacity = 20_000 }: PacedRefusalsOptions = {}): PacedRefusals {
  const perTick = Math.max(1, Math.round((perSecond * tickMs) / 1000));
  const waiting = new Set<() => void>();
  let timer: NodeJS.Timeout | undefined;
  /** How many more may be answered in this tick without waiting. */
  let free = perTick;
  let stopped = false;

  function tick(): void {
    free = perTick;
    for (const answer of waiting) {
      if (free === 0) return;
      free -= 1;
      answer();
    }
    if (free < perTick) return;
    clearInterval(timer);
    timer = undefined;
  }

  return {
    async wait(signal) {
      if (stopped || signal.aborted || waiting.size >= capacity) return;
      timer ??= setInterval(tick, tickMs).unref();
      if (free > 0 && waiting.size === 0) {
        free -= 1;
        return;
      }
      await new Promise<void>((resolve) => {
        const answer = () => {
          waiting.delete(answer);
          signal.removeEventListener("abort", answer);
          resolve();
        };
        waiting.add(answer);
        signal.addEventListener("abort", answer, { once: true });
      });
    },
    stop() {
      stopped = true;
      clearInterval(timer);
      for (const answer of waiting) answer();
    },
  };
}

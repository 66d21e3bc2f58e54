export interface PacedRefusals {
  /** Resolves when the refusal may be sent, or when the caller disconnects. */
  wait(signal: AbortSignal): Promise<void>;
  /** Releases all waiting refusals. Later ones do not wait. */
  stop(): void;
}

export interface PacedRefusalsOptions {
  /** Refusals sent per second. */
  readonly perSecond?: number;
  /** Refusals that have waited this long are sent in addition, at the same rate. */
  readonly maxWaitMs?: number;
  /** Maximum number of waiting refusals. Further ones are sent at once. */
  readonly capacity?: number;
}

interface Waiting {
  readonly sinceMs: number;
  readonly answer: () => void;
  isGone: boolean;
}

/**
 * Sends refused logins at a steady rate. Otherwise a client that retries at every response keeps the event loop busy: a
 * refusal and the next call cost about 0.5 ms of a core.
 *
 * The newest refusal is sent first. The calls of a flood then wait for each other, and a person whose login is refused
 * meanwhile waits for few of them. A waiting refusal costs only memory.
 */
export function createPacedRefusals({
  perSecond = 100,
  maxWaitMs = 30_000,
  capacity = 20_000,
}: PacedRefusalsOptions = {}): PacedRefusals {
  /** Oldest first. */
  let waiting: Waiting[] = [];
  let goneCount = 0;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  // One per tick: a burst of responses would block the event loop for all other calls.
  function answerNext(): void {
    removeGone();
    const [oldest] = waiting;
    if (oldest === undefined) {
      clearInterval(timer);
      timer = undefined;
      return;
    }
    if (performance.now() - oldest.sinceMs > maxWaitMs) waiting.shift()?.answer();
    waiting.pop()?.answer();
  }

  /** Removes disconnected callers at both ends, and everywhere once they are the majority. */
  function removeGone(): void {
    if (2 * goneCount > waiting.length) {
      waiting = waiting.filter(({ isGone }) => !isGone);
      goneCount = 0;
    }
    while (waiting.at(-1)?.isGone === true) {
      waiting.pop();
      goneCount -= 1;
    }
    while (waiting[0]?.isGone === true) {
      waiting.shift();
      goneCount -= 1;
    }
  }

  return {
    async wait(signal) {
      if (stopped || signal.aborted || waiting.length >= capacity) return;
      if (timer === undefined) {
        timer = setInterval(answerNext, 1000 / perSecond).unref();
        return;
      }
      await new Promise<void>((resolve) => {
        const entry: Waiting = { sinceMs: performance.now(), answer, isGone: false };
        waiting.push(entry);
        signal.addEventListener("abort", leave, { once: true });

        function answer(): void {
          signal.removeEventListener("abort", leave);
          resolve();
        }

        function leave(): void {
          entry.isGone = true;
          goneCount += 1;
          removeGone();
          resolve();
        }
      });
    },
    stop() {
      stopped = true;
      clearInterval(timer);
      for (const { answer } of waiting) answer();
      waiting = [];
    },
  };
}

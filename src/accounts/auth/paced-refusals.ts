export interface PacedRefusals {
  /** Resolves when the refusal may be answered, or when the caller is gone. */
  wait(signal: AbortSignal): Promise<void>;
  /** Answers all that wait, and from now on at once. */
  stop(): void;
}

export interface PacedRefusalsOptions {
  /** How many are answered a second. */
  readonly perSecond?: number;
  /** Refusals that have waited this long are answered too, as many a second. */
  readonly maxWaitMs?: number;
  /** How many wait; more are answered at once. */
  readonly capacity?: number;
}

interface Waiting {
  readonly sinceMs: number;
  readonly answer: () => void;
  isGone: boolean;
}

/**
 * Answers refused logins at a steady pace. A client that asks again at every answer would otherwise keep the event loop
 * busy: a refusal and the call that follows it cost some 0.5 ms of a core.
 *
 * The newest refusal is answered first. A flood's calls then wait for each other, and a person whose login is refused
 * meanwhile waits for few of them. A refusal that waits costs memory alone.
 */
export function createPacedRefusals({
  perSecond = 100,
  maxWaitMs = 30_000,
  capacity = 20_000,
}: PacedRefusalsOptions = {}): PacedRefusals {
  /** The oldest first. */
  let waiting: Waiting[] = [];
  let goneCount = 0;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  // One at a time: answers made together keep the event loop from everyone else for as long as all of them take.
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

  /** Removes callers that are gone from both ends, and from between where they are the most. */
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
        const one: Waiting = { sinceMs: performance.now(), answer, isGone: false };
        waiting.push(one);
        signal.addEventListener("abort", leave, { once: true });

        function answer(): void {
          signal.removeEventListener("abort", leave);
          resolve();
        }

        function leave(): void {
          one.isGone = true;
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

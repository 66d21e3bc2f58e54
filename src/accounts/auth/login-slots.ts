import { unavailable } from "../../shared/errors.ts";

export interface LoginSlots {
  /**
   * Runs the work when a slot is free. Callers of all networks take turns, so that one network's flood does not keep
   * the others waiting.
   * @throws UNAVAILABLE at once when too many wait; the signal's reason when the caller leaves before its turn
   */
  run<Result>(caller: LoginCaller, work: () => Promise<Result>): Promise<Result>;
}

export interface LoginCaller {
  readonly network: string;
  readonly signal: AbortSignal;
}

export interface LoginSlotsOptions {
  /** How many run at once. */
  readonly concurrency: number;
  /** How many may wait in all, and of one network. */
  readonly queue?: number;
  readonly queueOfNetwork?: number;
}

const retryAfterMs = 1000;

/**
 * Bounds what logins cost: the work of a login (a read, a hash, at most one write) runs in a slot, and no more logins
 * are at the processor or the database than there are slots. What waits is a closure in memory.
 */
export function createLoginSlots({ concurrency, queue = 128, queueOfNetwork = 64 }: LoginSlotsOptions): LoginSlots {
  /** The starts of those that wait, by network, in the order of the networks' turns. */
  const waiting = new Map<string, Set<() => void>>();
  let waitingCount = 0;
  let running = 0;

  function startNext(): void {
    const [first] = waiting;
    if (first === undefined || running >= concurrency) return;
    const [network, starts] = first;
    const [start] = starts;
    if (start !== undefined) remove(network, start);
    // The network goes to the end of the line.
    if (waiting.delete(network) && starts.size > 0) waiting.set(network, starts);
    start?.();
  }

  function add(network: string, start: () => void): void {
    const starts = waiting.get(network) ?? new Set();
    if (waitingCount >= queue || starts.size >= queueOfNetwork) {
      throw unavailable("TOO_BUSY", "too many logins at once", retryAfterMs);
    }
    starts.add(start);
    waiting.set(network, starts);
    waitingCount += 1;
  }

  function remove(network: string, start: () => void): void {
    const starts = waiting.get(network);
    if (starts?.delete(start) !== true) return;
    waitingCount -= 1;
    if (starts.size === 0) waiting.delete(network);
  }

  function turn({ network, signal }: LoginCaller): Promise<void> {
    return new Promise((resolve, reject) => {
      const start = () => {
        signal.removeEventListener("abort", leave);
        running += 1;
        resolve();
      };
      const leave = () => {
        remove(network, start);
        reject(signal.reason as Error);
      };
      add(network, start);
      signal.addEventListener("abort", leave, { once: true });
      startNext();
    });
  }

  return {
    async run(caller, work) {
      caller.signal.throwIfAborted();
      await turn(caller);
      try {
        return await work();
      } finally {
        running -= 1;
        startNext();
      }
    },
  };
}

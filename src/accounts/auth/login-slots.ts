import { unavailable } from "../../shared/errors.ts";

export interface LoginSlots {
  /**
   * Runs the work when a slot is free. Slots go to the networks in round-robin order, so a flood from one network does
   * not delay the others.
   * @throws TOO_BUSY when the queue is full
   * @throws the signal's reason when the caller disconnects while it waits
   */
  run<Result>(caller: LoginCaller, work: () => Promise<Result>): Promise<Result>;
}

export interface LoginCaller {
  readonly network: string;
  readonly signal: AbortSignal;
}

export interface LoginSlotsOptions {
  /** Number of slots. */
  readonly concurrency: number;
  /** Maximum number of waiting logins, in total and per network. */
  readonly queue?: number;
  readonly queueOfNetwork?: number;
}

const retryAfterMs = 1000;

/**
 * Bounds the cost of logins. The work of a login (a read, a hash, at most one write) runs in a slot, so the number of
 * slots limits the load on the CPU and the database. A waiting login costs one closure.
 */
export function createLoginSlots({ concurrency, queue = 128, queueOfNetwork = 64 }: LoginSlotsOptions): LoginSlots {
  /** Start functions of waiting logins by network, in round-robin order. */
  const waiting = new Map<string, Set<() => void>>();
  let waitingCount = 0;
  let running = 0;

  function startNext(): void {
    const [first] = waiting;
    if (first === undefined || running >= concurrency) return;
    const [network, starts] = first;
    const [start] = starts;
    if (start !== undefined) remove(network, start);
    // The network goes to the end of the queue.
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

  function waitForSlot({ network, signal }: LoginCaller): Promise<void> {
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
      await waitForSlot(caller);
      try {
        return await work();
      } finally {
        running -= 1;
        startNext();
      }
    },
  };
}

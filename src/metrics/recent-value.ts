import { setTimeout as wait } from "node:timers/promises";

/** A value that takes a query. A scrape must neither wait for it nor repeat it without end. */
const freshMs = 1000;
const waitMs = 1000;

/**
 * Returns a function that reads a value at most once a second, one read at a time.
 * It resolves to undefined when the read fails or takes more than a second.
 */
export function createRecentValue<Value>(read: () => Promise<Value>): () => Promise<Value | undefined> {
  let latest: Promise<Value | undefined> | undefined;
  let startedMs = Number.NEGATIVE_INFINITY;
  let isRunning = false;
  return () => {
    if (latest === undefined || (!isRunning && performance.now() - startedMs >= freshMs)) {
      startedMs = performance.now();
      isRunning = true;
      latest = read()
        .catch(() => undefined)
        .finally(() => {
          isRunning = false;
        });
    }
    return Promise.race([latest, wait(waitMs, undefined, { ref: false })]);
  };
}

import { setImmediate as nextTurn } from "node:timers/promises";

/**
 * Yields the items that arrived while the reader was busy, in order, at most `max` at a time. Reads at most one item
 * ahead, so that a fast sender meets backpressure.
 */
export async function* readBatches<Item>(source: AsyncIterable<Item>, max: number): AsyncGenerator<Item[]> {
  const iterator = source[Symbol.asyncIterator]();
  let isReading = false;
  let next = read();
  try {
    for (;;) {
      const first = await next;
      if (first.done === true) return;
      const batch = [first.value];
      next = read();
      while (batch.length < max) {
        const more = await Promise.race([next, nextTurn()]);
        if (more === undefined || more.done === true) break;
        batch.push(more.value);
        next = read();
      }
      yield batch;
    }
  } finally {
    const ended = iterator.return?.();
    // return() of a generator waits for its pending next(), which never ends while the sender is silent.
    if (isReading) ended?.catch(() => undefined);
    else await ended;
  }

  function read(): Promise<IteratorResult<Item>> {
    isReading = true;
    const result = iterator.next().finally(() => {
      isReading = false;
    });
    // The read may fail before it is awaited. The next await throws the error.
    result.catch(() => undefined);
    return result;
  }
}

import { setImmediate as nextTurn } from "node:timers/promises";

/**
 * What has arrived while the reader was busy, at most `max` items at a time, in order. Reads one item ahead and no
 * further: who sends faster than the reader takes is held back.
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
    // A generator ends after its pending next(): while the sender keeps the stream open and is silent, that is never.
    if (isReading) ended?.catch(() => undefined);
    else await ended;
  }

  function read(): Promise<IteratorResult<Item>> {
    isReading = true;
    const result = iterator.next().finally(() => {
      isReading = false;
    });
    // It may fail before it is awaited; the next await throws.
    result.catch(() => undefined);
    return result;
  }
}

import { setImmediate as nextTurn } from "node:timers/promises";

/**
 * What has arrived while the reader was busy, at most `max` items at a time, in order. Reads one item ahead and no
 * further: who sends faster than the reader takes is held back.
 */
export async function* batches<Item>(source: AsyncIterable<Item>, max: number): AsyncGenerator<Item[]> {
  const iterator = source[Symbol.asyncIterator]();
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
    await iterator.return?.();
  }

  function read(): Promise<IteratorResult<Item>> {
    const result = iterator.next();
    // It may fail while nobody waits; whoever asks next is told.
    result.catch(() => undefined);
    return result;
  }
}

import { Code, ConnectError } from "@connectrpc/connect";

/**
 * What a sender sends, as it comes: who is silent for longer than that holds nothing any more.
 * @throws DEADLINE_EXCEEDED
 */
export async function* inTime<Piece>(pieces: AsyncIterable<Piece>, limitMs: number): AsyncGenerator<Piece> {
  const iterator = pieces[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await before(iterator.next(), limitMs);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    // Not waited for: its turn comes after the piece, which does not come.
    iterator.return?.().catch(() => undefined);
  }
}

function before<Result>(work: Promise<Result>, limitMs: number): Promise<Result> {
  return new Promise((resolve, reject) => {
    const late = () =>
      reject(new ConnectError(`the next piece of the data did not come within ${limitMs} ms`, Code.DeadlineExceeded));
    const timer = setTimeout(late, limitMs);
    work.finally(() => clearTimeout(timer)).then(resolve, reject);
  });
}

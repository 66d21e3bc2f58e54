import type { PutDataRequest } from "#gen/tollgate/v1/data_pb.js";
import { minUploadBytesPerSecond } from "../config.ts";
import { tooSlow } from "../shared/errors.ts";
import { createTransferDeadline } from "../shared/transfer-deadline.ts";

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

const bytesPerMs = minUploadBytesPerSecond / 1000;

/**
 * What a sender sends, as it comes, unless it falls behind a steady pace by so much in all: a piece in time, and then
 * another one, would hold a connection for days.
 * @throws DEADLINE_EXCEEDED
 */
export async function* inPace(pieces: AsyncIterable<PutDataRequest>, slackMs: number): AsyncGenerator<PutDataRequest> {
  const transferDeadline = createTransferDeadline(slackMs);
  let asked = performance.now();
  for await (const piece of pieces) {
    transferDeadline.spend(performance.now() - asked, (piece.file?.data.length ?? 0) / bytesPerMs);
    if (transferDeadline.leftMs < 0) throw tooSlow("the data came too slowly");
    yield piece;
    // What we do with a piece is not the sender's time.
    asked = performance.now();
  }
}

function before<Result>(work: Promise<Result>, limitMs: number): Promise<Result> {
  return new Promise((resolve, reject) => {
    const late = () => reject(tooSlow(`the next piece of the data did not come within ${limitMs} ms`));
    const timer = setTimeout(late, limitMs);
    work.finally(() => clearTimeout(timer)).then(resolve, reject);
  });
}

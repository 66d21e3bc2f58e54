import type { PutDataRequest } from "#gen/tollgate/v1/data_pb.js";
import { minUploadBytesPerSecond } from "../config.ts";
import { tooSlow } from "../shared/errors.ts";
import { createTransferDeadline } from "../shared/transfer-deadline.ts";

/**
 * Yields the parts of a stream.
 * @throws DEADLINE_EXCEEDED when a part takes longer than the limit
 */
export async function* withPartTimeout<Part>(parts: AsyncIterable<Part>, limitMs: number): AsyncGenerator<Part> {
  const iterator = parts[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await withTimeout(iterator.next(), limitMs);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    // Not awaited: it would wait for the part that never arrives.
    iterator.return?.().catch(() => undefined);
  }
}

const bytesPerMs = minUploadBytesPerSecond / 1000;

/**
 * Yields the parts of an upload. A timeout of each part is not enough: small parts in time would hold a connection for
 * days.
 * @param slackMs how far the client may fall behind the minimum rate, over the whole upload
 * @throws DEADLINE_EXCEEDED when the client falls behind by more
 */
export async function* withMinimumRate(
  parts: AsyncIterable<PutDataRequest>,
  slackMs: number,
): AsyncGenerator<PutDataRequest> {
  const transferDeadline = createTransferDeadline(slackMs);
  let waitingSince = performance.now();
  for await (const part of parts) {
    transferDeadline.spend(performance.now() - waitingSince, (part.file?.data.length ?? 0) / bytesPerMs);
    if (transferDeadline.leftMs < 0) throw tooSlow("the data arrived too slowly");
    yield part;
    // The time that the service takes to store a part does not count.
    waitingSince = performance.now();
  }
}

function withTimeout<Result>(work: Promise<Result>, limitMs: number): Promise<Result> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(tooSlow(`the next part of the data did not arrive within ${limitMs} ms`));
    }, limitMs);
    work.finally(() => clearTimeout(timer)).then(resolve, reject);
  });
}

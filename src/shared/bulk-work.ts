/** Rows of bulk work that are handled without a pause: well under a millisecond of work. */
export const bulkPieceRows = 100;

const waiting: (() => void)[] = [];

/**
 * Waits until the event loop has handled the calls that have arrived, and until it is this work's turn. Bulk work (a list, a
 * report) awaits it before each piece of `bulkPieceRows` rows. One piece of all bulk work of the process runs in each turn of
 * the event loop. So a decision waits for at most one piece, however many lists are being read.
 */
export function pauseBulkWork(): Promise<void> {
  return new Promise((resolve) => {
    if (waiting.push(resolve) === 1) setImmediate(resumeNext);
  });
}

function resumeNext(): void {
  waiting.shift()?.();
  // An immediate that is set now runs in the next turn of the event loop.
  if (waiting.length > 0) setImmediate(resumeNext);
}

/** Yields rows in order, in pieces with a pause before each. */
export async function* inBulkPieces<Row>(rows: readonly Row[]): AsyncGenerator<Row[]> {
  for (let first = 0; first < rows.length; first += bulkPieceRows) {
    await pauseBulkWork();
    yield rows.slice(first, first + bulkPieceRows);
  }
}

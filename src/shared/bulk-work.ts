/** Rows of bulk work that are handled without a pause: well under a millisecond of work. */
export const bulkPieceRows = 100;

/**
 * Turns of the event loop from one piece to the next. A decision takes some four turns: its request, its body, the answer of
 * Redis, and its response. With a piece in each turn it would wait for four of them.
 */
const turnsPerPiece = 4;

const waiting: (() => void)[] = [];

/**
 * Waits until the event loop has handled the calls that have arrived, and until it is this work's turn. Bulk work (a list, a
 * report) awaits it before each piece of `bulkPieceRows` rows. One piece of all bulk work of the process runs in four turns of
 * the event loop. So a decision waits for one or two pieces, however many lists are being read.
 */
export function pauseBulkWork(): Promise<void> {
  return new Promise((resolve) => {
    if (waiting.push(resolve) === 1) setImmediate(resumeNext, turnsPerPiece);
  });
}

/** Resumes the next piece after a number of turns. An immediate that is set now runs in the next turn. */
function resumeNext(turns: number): void {
  if (turns > 1) {
    setImmediate(resumeNext, turns - 1);
    return;
  }
  waiting.shift()?.();
  if (waiting.length > 0) setImmediate(resumeNext, turnsPerPiece);
}

/** Yields rows in order, in pieces with a pause before each. */
export async function* inBulkPieces<Row>(rows: readonly Row[]): AsyncGenerator<Row[]> {
  for (let first = 0; first < rows.length; first += bulkPieceRows) {
    await pauseBulkWork();
    yield rows.slice(first, first + bulkPieceRows);
  }
}

import type { Readable } from "node:stream";

/**
 * Node delivers each HTTP/2 DATA frame and each HTTP/1.1 chunk as a separate buffer: one byte costs about 200 bytes of
 * heap until it is read. So small pieces are joined while they wait, and a body or connection of tiny pieces is ended.
 */

/** Smaller pieces are joined. */
const smallBytes = 1024;
/** Pieces of at least this average size are unlimited. */
const averageBytes = 16;
/** Pieces that a body may have in excess of that average. */
const bodyAllowance = 1_000;
/** Pieces that a connection may have in excess of that average. Larger pieces restore the allowance. */
const connectionAllowance = 10_000;

/** Counts the pieces of all bodies on one connection. */
export interface PieceCounter {
  /** Starts a body, which may have one piece of any size. */
  begin(): void;
  /** Counts a piece. Returns whether the connection may stay open. */
  count(bytes: number): boolean;
  /** The bytes of all bodies so far. */
  readonly bodyBytes: number;
}

/** Creates the counter of the pieces of one connection. */
export function createPieceCounter(): PieceCounter {
  let left = connectionAllowance;
  let bodyBytes = 0;
  const add = (pieces: number) => {
    left = Math.min(connectionAllowance, left + pieces);
  };
  return {
    begin: () => add(1),
    count(bytes) {
      bodyBytes += bytes;
      add(bytes / averageBytes - 1);
      return left >= 0;
    },
    get bodyBytes() {
      return bodyBytes;
    },
  };
}

/**
 * Joins the small pieces of a body while they wait to be read, so that they take about as much memory as they have
 * bytes. The content and the end of the body do not change.
 * @param onTinyPieces called at most once, when the body or its connection has too many pieces for its size
 */
export function joinPieces(body: Readable, counter?: PieceCounter, onTinyPieces: () => void = () => undefined): void {
  const push = body.push;
  const read = body.read;
  let waiting = Buffer.alloc(0);
  let waitingBytes = 0;
  let allowance = bodyAllowance;
  let isRefused = false;
  counter?.begin();

  // Node calls push for each piece, and every reader calls read. Nothing else adds or removes bytes.
  body.push = (piece: Buffer | null) => {
    if (piece === null) {
      flush();
      return push.call(body, null);
    }
    if (counter !== undefined && !isAllowed(piece.length)) {
      if (!isRefused) onTinyPieces();
      isRefused = true;
      return false;
    }
    if (piece.length >= smallBytes) {
      flush();
      return push.call(body, piece);
    }
    if (body.readableLength > 0) return join(piece);
    // Copied: a view would keep the whole buffer that was read from the socket.
    return push.call(body, body.readableFlowing === true ? piece : Buffer.from(piece));
  };
  body.read = (size?: number) => {
    flush();
    return read.call(body, size) as unknown;
  };

  function isAllowed(bytes: number): boolean {
    allowance += bytes / averageBytes - 1;
    return !isRefused && allowance >= 0 && counter?.count(bytes) === true;
  }

  function join(piece: Buffer): boolean {
    if (waitingBytes + piece.length > waiting.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(64, 2 * (waitingBytes + piece.length)));
      waiting.copy(larger, 0, 0, waitingBytes);
      waiting = larger;
    }
    piece.copy(waiting, waitingBytes);
    waitingBytes += piece.length;
    return body.readableLength + waitingBytes < body.readableHighWaterMark;
  }

  function flush(): void {
    if (waitingBytes === 0) return;
    const joined = waiting.subarray(0, waitingBytes);
    waiting = Buffer.alloc(0);
    waitingBytes = 0;
    push.call(body, joined);
  }
}

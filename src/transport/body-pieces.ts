import type { Readable } from "node:stream";

/**
 * Node hands over every DATA frame of HTTP/2 and every chunk of HTTP/1.1 as a buffer of its own: a byte takes some
 * 200 bytes of heap until it is read. A body's small pieces are therefore joined while nobody reads them, and a body
 * or a connection that consists of tiny pieces is ended.
 */

/** A smaller piece is joined with its neighbours. */
const smallBytes = 1024;
/** Pieces of this average size may go on without end. */
const averageBytes = 16;
/** How many pieces more than that a body may have. */
const bodyAllowance = 1_000;
/** How many pieces more than that a connection may have sent lately. */
const connectionAllowance = 10_000;

/** Counts the pieces of all bodies of one connection. */
export interface PieceCounter {
  /** A body begins: it may have one piece of any size. */
  begin(): void;
  /** Returns whether the connection may go on. */
  count(bytes: number): boolean;
}

export function createPieceCounter(): PieceCounter {
  let left = connectionAllowance;
  const add = (pieces: number) => {
    left = Math.min(connectionAllowance, left + pieces);
  };
  return {
    begin: () => add(1),
    count(bytes) {
      add(bytes / averageBytes - 1);
      return left >= 0;
    },
  };
}

/**
 * Joins the small pieces of a body while they wait to be read: what waits takes about as much memory as it has bytes.
 * The body's bytes, their order and its end stay as they are.
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

  // Node calls push for each piece, and whoever reads calls read: there is no other way in or out.
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
    // A view would keep all that was read from the socket at once.
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

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

/** A body whose small pieces are joined, and its state. */
type JoinedBody = Readable & { [stateKey]: JoinState };

interface JoinState {
  readonly counter: PieceCounter | undefined;
  readonly onTinyPieces: () => void;
  /** The body's own functions. */
  readonly push: Readable["push"];
  readonly read: Readable["read"];
  /** The first `waitingBytes` of `waiting` are joined pieces. */
  waiting: Buffer;
  waitingBytes: number;
  allowance: number;
  isRefused: boolean;
}

const stateKey = Symbol("joined pieces");
const none = Buffer.alloc(0);

/**
 * Joins the small pieces of a body while they wait to be read, so that they take about as much memory as they have
 * bytes. The content and the end of the body do not change.
 * A body may be joined once.
 * @param onTinyPieces called at most once, when the body or its connection has too many pieces for its size
 */
export function joinPieces(body: Readable, counter?: PieceCounter, onTinyPieces: () => void = () => undefined): void {
  const { push, read } = body;
  const [waitingBytes, allowance, isRefused] = [0, bodyAllowance, false];
  const state: JoinState = { counter, onTinyPieces, push, read, waiting: none, waitingBytes, allowance, isRefused };
  counter?.begin();
  // Node calls push for each piece, and every reader calls read. Nothing else adds or removes bytes. The functions are the
  // same for all bodies: with functions of its own, a body stays in memory until the next full garbage collection.
  Object.assign(body, { [stateKey]: state, push: pushJoined, read: readJoined });
}

function pushJoined(this: JoinedBody, piece: Buffer | null): boolean {
  const state = this[stateKey];
  if (piece === null) {
    flush(this, state);
    return state.push.call(this, null);
  }
  if (state.counter !== undefined && !isAllowed(state, state.counter, piece.length)) {
    if (!state.isRefused) state.onTinyPieces();
    state.isRefused = true;
    return false;
  }
  if (piece.length >= smallBytes) {
    flush(this, state);
    return state.push.call(this, piece);
  }
  if (this.readableLength > 0) {
    join(state, piece);
    return this.readableLength + state.waitingBytes < this.readableHighWaterMark;
  }
  // Copied: a view would keep the whole buffer that was read from the socket.
  return state.push.call(this, this.readableFlowing === true ? piece : Buffer.from(piece));
}

function readJoined(this: JoinedBody, size?: number): unknown {
  const state = this[stateKey];
  flush(this, state);
  return state.read.call(this, size) as unknown;
}

function isAllowed(state: JoinState, counter: PieceCounter, bytes: number): boolean {
  state.allowance += bytes / averageBytes - 1;
  return !state.isRefused && state.allowance >= 0 && counter.count(bytes);
}

function join(state: JoinState, piece: Buffer): void {
  const length = state.waitingBytes + piece.length;
  if (length > state.waiting.length) {
    const larger = Buffer.allocUnsafeSlow(Math.max(64, 2 * length));
    state.waiting.copy(larger, 0, 0, state.waitingBytes);
    state.waiting = larger;
  }
  piece.copy(state.waiting, state.waitingBytes);
  state.waitingBytes = length;
}

function flush(body: JoinedBody, state: JoinState): void {
  if (state.waitingBytes === 0) return;
  const joined = state.waiting.subarray(0, state.waitingBytes);
  state.waiting = none;
  state.waitingBytes = 0;
  state.push.call(body, joined);
}

import { createOldestEviction } from "./eviction.ts";

export interface UnauthenticatedLimits {
  /** Connections that may be open without an authenticated caller. */
  readonly maxConnections: number;
  /** Calls that may be open on such connections. */
  readonly maxStreams: number;
  /** How long such a call may last. */
  readonly streamMs: number;
}

/**
 * Bounds what all callers together may keep open before it is known who calls. A connection is a stranger's until a call
 * on it is authenticated. Where there are too many, the oldest is ended.
 */
export interface UnauthenticatedConnections {
  /** @param connection what `recognize` is called with: a session of HTTP/2, or the socket of HTTP/1.1 */
  enterConnection(connection: Closable, end: () => void): void;
  /** Counts a call, unless its connection is recognized. */
  enterStream(connection: object, stream: Closable, end: () => void): void;
  /**
   * Starts a call: at once on a recognized connection. Of all others, a few start in each turn of the event loop, in the
   * order in which they came, so that known callers are served between them.
   */
  startCall(connection: object, start: () => void): void;
  /** A call on the connection is authenticated: neither it nor its calls count any more. */
  recognize(connection: object | undefined): void;
}

interface Closable {
  once(event: "close", listener: () => void): unknown;
}

/** Each takes some 0.2 ms until it is answered or waits. */
const startsOfTurn = 16;

export const defaultUnauthenticatedLimits: UnauthenticatedLimits = {
  maxConnections: 10_000,
  maxStreams: 10_000,
  streamMs: 120_000,
};

export function createUnauthenticatedConnections({
  maxConnections,
  maxStreams,
  streamMs,
}: UnauthenticatedLimits): UnauthenticatedConnections {
  const connections = createOldestEviction(maxConnections);
  const streams = createOldestEviction(maxStreams, streamMs);
  /** What no longer counts when a connection is recognized: it, and its calls. */
  const countedOf = new WeakMap<object, Set<() => void>>();
  const startInTurn = createTurns(startsOfTurn);
  return {
    enterConnection(connection, end) {
      const leave = connections.enter(end);
      countedOf.set(connection, new Set([leave]));
      connection.once("close", leave);
    },
    enterStream(connection, stream, end) {
      const counted = countedOf.get(connection);
      if (counted === undefined) return;
      const leave = streams.enter(end);
      counted.add(leave);
      stream.once("close", () => {
        counted.delete(leave);
        leave();
      });
    },
    startCall(connection, start) {
      if (countedOf.has(connection)) startInTurn(start);
      else start();
    },
    recognize(connection) {
      if (connection === undefined) return;
      for (const leave of countedOf.get(connection) ?? []) leave();
      countedOf.delete(connection);
    },
  };
}

/** Does so many pieces of work in each turn of the event loop, and keeps the others for the next turns. */
function createTurns(perTurn: number): (work: () => void) => void {
  const waiting: (() => void)[] = [];
  let left = perTurn;
  let isScheduled = false;

  function nextTurn(): void {
    isScheduled = false;
    left = perTurn;
    for (const work of waiting.splice(0, perTurn)) run(work);
  }

  function run(work: () => void): void {
    left -= 1;
    if (!isScheduled) setImmediate(nextTurn);
    isScheduled = true;
    work();
  }

  return (work) => {
    if (left > 0 && waiting.length === 0) run(work);
    else waiting.push(work);
  };
}

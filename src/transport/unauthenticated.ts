import { createOldestEviction } from "./eviction.ts";

export interface UnauthenticatedLimits {
  /** Open connections without an authenticated call. */
  readonly maxConnections: number;
  /** Open calls on such connections. */
  readonly maxStreams: number;
  /** How long such a call may last. */
  readonly streamMs: number;
}

/**
 * Bounds the connections and calls of all unauthenticated callers together. A connection counts until one of its calls
 * is authenticated. Beyond a limit, the oldest is ended.
 */
export interface UnauthenticatedConnections {
  /** @param connection the key for `recognize`: the HTTP/2 session or the HTTP/1.1 socket */
  enterConnection(connection: Closable, end: () => void): void;
  /** Counts a call unless its connection is recognized. */
  enterStream(connection: object, stream: Closable, end: () => void): void;
  /**
   * Starts a call on a recognized connection at once. All other calls are queued, and a few start in each turn of the
   * event loop, so that authenticated callers are served in between.
   */
  startCall(connection: object, start: () => void): void;
  /** Stops counting a connection and its calls: one of them is authenticated. */
  recognize(connection: object | undefined): void;
}

interface Closable {
  once(event: "close", listener: () => void): unknown;
}

/** Each call runs for about 0.2 ms until it responds or waits. */
const startsPerTurn = 16;

export const defaultUnauthenticatedLimits: UnauthenticatedLimits = {
  maxConnections: 10_000,
  maxStreams: 10_000,
  streamMs: 120_000,
};

/** Creates the limits on connections and calls whose caller is not authenticated yet. */
export function createUnauthenticatedConnections({
  maxConnections,
  maxStreams,
  streamMs,
}: UnauthenticatedLimits): UnauthenticatedConnections {
  const connections = createOldestEviction(maxConnections);
  const streams = createOldestEviction(maxStreams, streamMs);
  /** By connection: functions that stop counting it and its calls. */
  const countedOf = new WeakMap<object, Set<() => void>>();
  const enqueue = createTurnQueue(startsPerTurn);
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
      if (countedOf.has(connection)) enqueue(start);
      else start();
    },
    recognize(connection) {
      if (connection === undefined) return;
      for (const leave of countedOf.get(connection) ?? []) leave();
      countedOf.delete(connection);
    },
  };
}

/** Runs a limited number of queued functions in each turn of the event loop. */
function createTurnQueue(perTurn: number): (work: () => void) => void {
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

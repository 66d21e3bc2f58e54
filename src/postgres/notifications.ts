import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "pino";
import type { OutageLog } from "../shared/outage-log.ts";
import { lastReleaseSession } from "./last-release.ts";
import { closeWhenSilent } from "./silent-connections.ts";

/** The messages between the servers on one database. */
export interface Notifications {
  /**
   * Resolves when every connected server has flushed the entries that it had queued before the call. A server that does
   * not respond in two seconds is logged and skipped.
   * @returns whether no connected server was skipped
   * @throws an error that maps to UNAVAILABLE when this server has no connection
   */
  barrier(): Promise<boolean>;
  /**
   * Resolves when every connected server with local counters has given them up and flushed, or cannot do so now. A server
   * that does not respond in two seconds is logged and skipped.
   * @returns whether no connected server was skipped
   * @throws an error that maps to UNAVAILABLE when this server has no connection
   */
  recall(): Promise<boolean>;
  /** Starts to record whether barriers wait for this server. */
  presence(): Presence;
  /**
   * Returns for how long changes of users may have gone unnoticed, in milliseconds: 0 while this server has its connection. A
   * silent connection is noticed within four seconds.
   */
  unnoticedMs(): number;
  /** Resolves when this server has received the notification of every change that was committed before the call. */
  caughtUp(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Records whether barriers have waited for this server. A barrier skips a server without a connection, and one that takes
 * more than two seconds. Data read after such a barrier may lack what this server counted before it.
 */
export interface Presence {
  /**
   * Returns whether every barrier has waited for this server so far, as far as this server knows without I/O.
   * @param sinceMs start of the period, by performance.now(); default: the call of presence()
   */
  isHeld(sinceMs?: number): boolean;
  /** Checks isHeld with a round trip to PostgreSQL on the same connection. Its result is certain. */
  confirm(sinceMs?: number): Promise<boolean>;
}

export interface NotificationsOptions {
  /** postgres://user:password@host:port/name */
  readonly url: string;
  readonly logger: Logger;
  readonly outages: OutageLog;
  /** Called when users or their quotas have changed; "all" when it is unknown which. */
  readonly onUsers: (userIds: readonly number[] | "all") => void;
  /** Called when the counters in Redis are no longer valid. */
  readonly onGeneration: () => void;
  /** Called when another server needs to read entries that this server may have queued. */
  readonly onFlush: () => Promise<void>;
  /** Called when another server has found the shared counters again: this server must give up its local counters. */
  readonly onRecall: () => Promise<void>;
}

const channel = "tollgate";
/** The application_name that marks the session of a running server. */
const sessionName = "tollgate_notifications";
const barrierTimeoutMs = 2000;
/** Barriers that run at once. Callers beyond that share the next one. */
const maxBarriers = 4;
const reconnectMs = { first: 50, most: 2000 };
const connectTimeoutMs = 5000;
/** A query at this interval detects a silent connection. */
const heartbeatMs = 1000;
const silenceMs = 3000;
const closeTimeoutMs = 1000;

/**
 * Connects the servers on one database through NOTIFY of PostgreSQL: changed users (from triggers on the tables), invalid
 * counters, and requests to flush. Reconnects by itself. Notifications sent meanwhile are lost, so after a reconnect all
 * users and counters count as changed.
 */
export async function openNotifications(options: NotificationsOptions): Promise<Notifications> {
  const { url, logger, outages, onUsers, onGeneration, onFlush, onRecall } = options;
  /** Callbacks for responses, by request id. */
  const onResponse = new Map<string, (pid: number) => void>();
  /** Reject the requests that run when the connection ends: no response can arrive. */
  const rejectRunning = new Set<(error: Error) => void>();
  const runningBarriers = new Set<Promise<boolean>>();
  let client: pg.Client | undefined;
  /** When the connection was lost, by performance.now(). */
  let lostMs = Number.NEGATIVE_INFINITY;
  let closed = false;
  /** Prefix of this server's request ids: every server receives all responses. */
  const serverId = randomUUID();
  let requests = 0;
  let syncs = 0;
  let nextBarrier: Promise<boolean> | undefined;
  let lastQuery: Promise<unknown> = Promise.resolve();

  await connect();

  /** Queues statements: a connection runs one at a time. */
  function query<Row extends pg.QueryResultRow>(from: pg.Client, text: string, values: unknown[]) {
    const result = lastQuery.then(() => from.query<Row>(text, values));
    lastQuery = result.catch(() => undefined);
    return result;
  }

  async function connect(): Promise<void> {
    const fresh = new pg.Client({ connectionString: url, keepAlive: true, connectionTimeoutMillis: connectTimeoutMs });
    fresh.on("notification", ({ payload = "" }) => onNotification(fresh, payload));
    let lossError: Error | undefined;
    fresh.on("error", (error) => {
      lossError ??= error;
    });
    await fresh.connect();
    closeWhenSilent(fresh, { limitMs: silenceMs });
    await fresh.query(`listen ${channel}`);
    // From here on this server responds, so barriers wait for it.
    await fresh.query(`set application_name = '${sessionName}'`);
    client = fresh;
    // Without regular queries, a silent connection would go unnoticed and notifications would be lost.
    const heartbeat = setInterval(() => void query(fresh, "select 1", []).catch(() => undefined), heartbeatMs).unref();
    fresh.on("end", () => {
      clearInterval(heartbeat);
      client = undefined;
      lostMs = performance.now();
      for (const reject of rejectRunning) reject(connectionError("the notification connection is lost"));
      if (closed) return;
      outages.lose("notifications", lossError);
      void reconnect();
    });
    outages.restore("notifications");
    onUsers("all");
    onGeneration();
  }

  async function reconnect(): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      await wait(Math.min(reconnectMs.first * 2 ** attempt, reconnectMs.most), undefined, { ref: false });
      if (closed) return;
      const connected = await connect().then(
        () => true,
        () => false,
      );
      // If this connection ends, its "end" event reconnects again.
      if (connected) return;
    }
  }

  function onNotification(from: pg.Client, payload: string): void {
    const [kind = "", ...values] = payload.split(" ");
    if (kind === "user") onUsers(values.map(Number));
    else if (kind === "users") onUsers("all");
    else if (kind === "generation") onGeneration();
    else if (kind === "flushed") onResponse.get(values[0] ?? "")?.(Number(values[1]));
    else if (kind === "flush" || kind === "recall") {
      const work = kind === "flush" ? onFlush : onRecall;
      work()
        .then(() =>
          query(from, "select pg_notify($1, 'flushed ' || $2 || ' ' || pg_backend_pid())", [channel, values[0]]),
        )
        .catch((error: unknown) => logger.warn({ err: error, kind }, "flush request failed"));
    }
  }

  /** Sends a request to all servers and waits for each one that is connected. Returns whether all have responded in time. */
  async function request(kind: "flush" | "recall"): Promise<boolean> {
    const connection = client;
    if (connection === undefined) throw connectionError("the notification connection is not open");
    // Counted before the first await, so that two requests never share an id.
    requests += 1;
    const id = `${serverId}.b${requests}`;
    const { rows } = await query<{ pid: number }>(
      connection,
      `select pid from pg_stat_activity
       where datname = current_database() and application_name = any($1)`,
      [[sessionName, lastReleaseSession]],
    );
    const unresponsive = new Set(rows.map(({ pid }) => pid));
    let fail: (error: Error) => void = () => undefined;
    return await new Promise<boolean>((resolve, reject) => {
      const timer = setTimeout(() => {
        logger.warn({ pids: [...unresponsive] }, "flush request timed out");
        resolve(false);
      }, barrierTimeoutMs);
      onResponse.set(id, (pid) => {
        unresponsive.delete(pid);
        if (unresponsive.size > 0) return;
        clearTimeout(timer);
        resolve(true);
      });
      fail = (error) => {
        clearTimeout(timer);
        reject(error);
      };
      rejectRunning.add(fail);
      query(connection, "select pg_notify($1, $2)", [channel, `${kind} ${id}`]).catch(fail);
    }).finally(() => {
      onResponse.delete(id);
      rejectRunning.delete(fail);
    });
  }

  async function startBarrier(): Promise<boolean> {
    await wait(0);
    while (runningBarriers.size >= maxBarriers) {
      await Promise.race([...runningBarriers].map((barrier) => barrier.catch(() => undefined)));
    }
    nextBarrier = undefined;
    const barrier = request("flush").finally(() => runningBarriers.delete(barrier));
    runningBarriers.add(barrier);
    return barrier;
  }

  return {
    // Calls share a barrier that has not started yet.
    barrier() {
      nextBarrier ??= startBarrier();
      return nextBarrier;
    },
    recall: () => request("recall"),
    presence() {
      const connection = client;
      const startMs = performance.now();
      const isHeld = (sinceMs = startMs) =>
        connection !== undefined && client === connection && performance.now() - sinceMs < barrierTimeoutMs;
      return {
        isHeld,
        async confirm(sinceMs) {
          if (connection === undefined || !isHeld(sinceMs)) return false;
          const hasResponded = await query(connection, "select 1", []).then(
            () => true,
            () => false,
          );
          return hasResponded && isHeld(sinceMs);
        },
      };
    },
    unnoticedMs: () => (client === undefined ? performance.now() - lostMs : 0),
    async caughtUp() {
      const connection = client;
      // Without a connection no notification arrives, so every cached user may be stale.
      if (connection === undefined) return onUsers("all");
      syncs += 1;
      const id = `${serverId}.s${syncs}`;
      const received = new Promise<void>((resolve) => onResponse.set(id, () => resolve()));
      try {
        // Notifications arrive in the order of commits, this server's own included.
        await query(connection, "select pg_notify($1, 'flushed ' || $2 || ' ' || pg_backend_pid())", [channel, id]);
        await Promise.race([received, wait(barrierTimeoutMs, undefined, { ref: false })]);
      } catch {
        onUsers("all");
      } finally {
        onResponse.delete(id);
      }
    },
    async close() {
      closed = true;
      await Promise.race([client?.end(), wait(closeTimeoutMs, undefined, { ref: false })]);
    },
  };
}

/** SQLSTATE connection_does_not_exist: toDatabaseError maps it to UNAVAILABLE. */
const connectionDoesNotExist = "08003";

function connectionError(message: string): Error {
  return Object.assign(new Error(message), { code: connectionDoesNotExist });
}

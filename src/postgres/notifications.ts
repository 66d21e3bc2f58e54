import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "pino";
import { endWhenSilent } from "./silence.ts";

export interface Notifications {
  /**
   * Resolves when every living server has flushed what it held back, as of now.
   * A server that does not answer in time is not waited for: it is logged.
   */
  barrier(): Promise<void>;
  /**
   * Resolves when every living server that counts by itself has stopped and has flushed, or cannot stop now. One that
   * does not answer in time is not waited for: it is logged.
   */
  recall(): Promise<void>;
  /** From now on: what tells whether barriers have waited for this server all the while. */
  presence(): Presence;
  /** Resolves when this server has heard of every change that was committed before. */
  caughtUp(): Promise<void>;
  close(): Promise<void>;
}

/**
 * A barrier leaves out a server that has no connection, and gives up on one that takes two seconds. What was counted at a
 * moment that such a barrier began after may not be in what was read behind it.
 */
export interface Presence {
  /**
   * Whether every barrier has waited for this server until now, as far as this server knows without asking.
   * @param sinceMs what is counted later than that matters, by performance.now(); absent: since presence() was called
   */
  isHeld(sinceMs?: number): boolean;
  /** The same for certain: PostgreSQL has been asked on the same connection. */
  confirm(sinceMs?: number): Promise<boolean>;
}

export interface NotificationsOptions {
  /** postgres://user:password@host:port/name */
  readonly url: string;
  readonly logger: Logger;
  /** These users, or their quotas, have changed; "all" where it is not known which. */
  readonly onUsers: (userIds: readonly number[] | "all") => void;
  /** What is counted in Redis does not hold any more. */
  readonly onGeneration: () => void;
  /** Asked by a server that needs to read what this one may hold back. */
  readonly onFlush: () => Promise<void>;
  /** Asked by a server that has found the shared counters again: this one is to stop counting by itself. */
  readonly onRecall: () => Promise<void>;
}

const channel = "tollgate";
/** By this name a server's session is known to be a living server's. */
const sessionName = "tollgate_bus";
const barrierLimitMs = 2000;
/** Barriers at once; who finds so many waits for the next one, together with all others. */
const maxBarriers = 4;
const reconnectMs = { first: 50, most: 2000 };
const connectMs = 5000;
/** How often the connection is tried, and how long its answers may take. */
const beatMs = 1000;
const silenceMs = 3000;
/** How long a close waits for PostgreSQL. */
const closeMs = 1000;

/**
 * What servers on one database tell each other, by PostgreSQL's NOTIFY: which users have changed (triggers of the
 * tables say so), that the counters have, and to flush. Connects again by itself; what was said meanwhile is lost, and so everything may have
 * changed.
 */
export async function openNotifications(options: NotificationsOptions): Promise<Notifications> {
  const { url, logger, onUsers, onGeneration, onFlush, onRecall } = options;
  const waiting = new Map<string, (pid: number) => void>();
  /** Told when the connection ends: no more answers come. */
  const failing = new Set<(error: Error) => void>();
  const running = new Set<Promise<void>>();
  let client: pg.Client | undefined;
  let closed = false;
  /** Every server hears all answers: this one knows its own questions by it. */
  const name = randomUUID();
  let barriers = 0;
  let syncs = 0;
  let next: Promise<void> | undefined;
  let last: Promise<unknown> = Promise.resolve();

  await connect();

  /** A connection has one statement at a time. */
  function query<Row extends pg.QueryResultRow>(from: pg.Client, text: string, values: unknown[]) {
    const result = last.then(() => from.query<Row>(text, values));
    last = result.catch(() => undefined);
    return result;
  }

  async function connect(): Promise<void> {
    const fresh = new pg.Client({ connectionString: url, keepAlive: true, connectionTimeoutMillis: connectMs });
    fresh.on("notification", ({ payload = "" }) => onAnswer(fresh, payload));
    fresh.on("error", (error) => logger.warn({ err: error }, "the notification connection is interrupted"));
    await fresh.connect();
    endWhenSilent(fresh, { limitMs: silenceMs });
    await fresh.query(`listen ${channel}`);
    // From here on it answers, and may be waited for.
    await fresh.query(`set application_name = '${sessionName}'`);
    client = fresh;
    // A connection on which nothing is asked would be silent unnoticed, and no notice would come.
    const beat = setInterval(() => void query(fresh, "select 1", []).catch(() => undefined), beatMs).unref();
    fresh.on("end", () => {
      clearInterval(beat);
      client = undefined;
      for (const fail of failing) fail(connectionError("the notification connection is interrupted"));
      if (!closed) void reconnect();
    });
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
      // One that ends again comes back here by itself.
      if (connected) return;
    }
  }

  function onAnswer(from: pg.Client, payload: string): void {
    const [what = "", ...rest] = payload.split(" ");
    if (what === "user") onUsers(rest.map(Number));
    else if (what === "users") onUsers("all");
    else if (what === "generation") onGeneration();
    else if (what === "flushed") waiting.get(rest[0] ?? "")?.(Number(rest[1]));
    else if (what === "flush" || what === "recall") {
      const work = what === "flush" ? onFlush : onRecall;
      work()
        .then(() =>
          query(from, "select pg_notify($1, 'flushed ' || $2 || ' ' || pg_backend_pid())", [channel, rest[0]]),
        )
        .catch((error: unknown) => logger.warn({ err: error, what }, "a flush was asked for and not answered"));
    }
  }

  async function ask(what: "flush" | "recall"): Promise<void> {
    const notifications = client;
    if (notifications === undefined) throw connectionError("the notification connection is not open");
    // Taken before anything is waited for: two barriers never have one id.
    barriers += 1;
    const id = `${name}.b${barriers}`;
    const { rows } = await query<{ pid: number }>(
      notifications,
      `select pid from pg_stat_activity
       where datname = current_database() and application_name = $1`,
      [sessionName],
    );
    const silent = new Set(rows.map(({ pid }) => pid));
    let fail: (error: Error) => void = () => undefined;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        logger.warn({ pids: [...silent] }, "servers did not flush in time");
        resolve();
      }, barrierLimitMs);
      waiting.set(id, (pid) => {
        silent.delete(pid);
        if (silent.size > 0) return;
        clearTimeout(timer);
        resolve();
      });
      fail = (error) => {
        clearTimeout(timer);
        reject(error);
      };
      failing.add(fail);
      query(notifications, "select pg_notify($1, $2)", [channel, `${what} ${id}`]).catch(fail);
    }).finally(() => {
      waiting.delete(id);
      failing.delete(fail);
    });
  }

  async function askNext(): Promise<void> {
    await wait(0);
    while (running.size >= maxBarriers) await Promise.race([...running].map((one) => one.catch(() => undefined)));
    next = undefined;
    const asking = ask("flush").finally(() => running.delete(asking));
    running.add(asking);
    return asking;
  }

  return {
    // All who ask before it begins share one.
    barrier() {
      next ??= askNext();
      return next;
    },
    recall: () => ask("recall"),
    presence() {
      const notifications = client;
      const startMs = performance.now();
      const isHeld = (sinceMs = startMs) =>
        notifications !== undefined && client === notifications && performance.now() - sinceMs < barrierLimitMs;
      return {
        isHeld,
        async confirm(sinceMs) {
          if (notifications === undefined || !isHeld(sinceMs)) return false;
          const isAnswered = await query(notifications, "select 1", []).then(
            () => true,
            () => false,
          );
          return isAnswered && isHeld(sinceMs);
        },
      };
    },
    async caughtUp() {
      const notifications = client;
      // Without a connection nothing is heard, and so nothing that is remembered counts.
      if (notifications === undefined) return onUsers("all");
      syncs += 1;
      const id = `${name}.s${syncs}`;
      const heard = new Promise<void>((resolve) => waiting.set(id, () => resolve()));
      try {
        // Notices come in the order of their commits, one's own included.
        await query(notifications, "select pg_notify($1, 'flushed ' || $2 || ' ' || pg_backend_pid())", [channel, id]);
        await Promise.race([heard, wait(barrierLimitMs, undefined, { ref: false })]);
      } catch {
        onUsers("all");
      } finally {
        waiting.delete(id);
      }
    },
    async close() {
      closed = true;
      await Promise.race([client?.end(), wait(closeMs, undefined, { ref: false })]);
    },
  };
}

/** SQLSTATE connection_does_not_exist: storage/errors makes UNAVAILABLE of it. */
const connectionDoesNotExist = "08003";

function connectionError(message: string): Error {
  return Object.assign(new Error(message), { code: connectionDoesNotExist });
}

import { setTimeout as wait } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "pino";
import { advisoryLocks } from "./advisory-locks.ts";
import { endWhenSilent } from "./silence.ts";

export interface ServerLockOptions {
  /** postgres://user:password@host:port/name */
  readonly url: string;
  /** Shown to whom this lock keeps from starting. */
  readonly serverName: string;
  /** Whether other servers may hold it, too: those whose counters are in Redis. */
  readonly isShared: boolean;
  readonly logger: Logger;
  /** Another server has taken the lock while this one had lost its connection: this one must grant nothing more. */
  readonly onTakeover: (reason: string) => void;
}

/** A server that was told to stop, or was killed, is gone by then. */
const waitMs = 3000;
const retryMs = 100;
const beatMs = 1000;
const silenceMs = 3000;
const sessionPrefix = "tollgate_server ";

/**
 * Holds an advisory lock on a connection of its own for as long as the server lives, so that a server with counters in
 * its process is the only one on its database. A lost connection is opened again and the lock taken again: PostgreSQL
 * frees the lock with the connection, and another server may have it by then.
 * @throws Error that names the server in the way
 */
export async function holdServerLock(options: ServerLockOptions): Promise<{ close(): Promise<void> }> {
  const { logger, onTakeover } = options;
  let isClosed = false;
  let client = await take(options, onLost);

  function onLost(): void {
    if (isClosed) return;
    logger.warn("server lock lost: taking it again");
    void takeAgain();
  }

  async function takeAgain(): Promise<void> {
    for (;;) {
      if (isClosed) return;
      try {
        client = await take(options, onLost);
        logger.info("server lock taken again");
        return;
      } catch (error) {
        if (error instanceof LockTakenError) return onTakeover(error.message);
        await wait(beatMs, undefined, { ref: false });
      }
    }
  }

  return {
    async close() {
      isClosed = true;
      await Promise.race([client.end(), wait(beatMs, undefined, { ref: false })]);
    },
  };
}

class LockTakenError extends Error {}

async function take({ url, serverName, isShared }: ServerLockOptions, onLost: () => void): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    application_name: `${sessionPrefix}${serverName}`.slice(0, 63),
    keepAlive: true,
    connectionTimeoutMillis: 5000,
  });
  client.on("error", () => undefined);
  await client.connect();
  endWhenSilent(client, { limitMs: silenceMs });
  try {
    const startedMs = performance.now();
    const kind = isShared ? "pg_try_advisory_lock_shared" : "pg_try_advisory_lock";
    for (;;) {
      const { rows } = await client.query<{ taken: boolean }>(`select ${kind}($1) as taken`, [advisoryLocks.server]);
      if (rows[0]?.taken === true) break;
      if (performance.now() - startedMs > waitMs) throw new LockTakenError(await describeHolders(client, isShared));
      await wait(retryMs);
    }
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
  // A connection that is silent would lose the lock unnoticed.
  const beat = setInterval(() => void client.query("select 1").catch(() => undefined), beatMs).unref();
  client.on("end", () => {
    clearInterval(beat);
    onLost();
  });
  return client;
}

async function describeHolders(client: pg.Client, isShared: boolean): Promise<string> {
  const { rows } = await client.query<{ name: string }>(
    `select substr(application_name, ${sessionPrefix.length + 1}) as name from pg_locks join pg_stat_activity using (pid)
     where locktype = 'advisory' and granted and objid = $1 and pid <> pg_backend_pid()
       and pg_locks.database = (select oid from pg_database where datname = current_database())
     order by name`,
    [advisoryLocks.server],
  );
  const names = [...new Set(rows.map(({ name }) => name))].join(", ") || "another server";
  return isShared
    ? `a server without REDIS_URL runs on this database and counts in its own process: ${names}. Stop it first, or set the same REDIS_URL on all servers`
    : `another server runs on this database: ${names}. Without REDIS_URL there may be one: stop that one first, or set the same REDIS_URL on all servers. A rolling deployment runs two at a time and needs REDIS_URL`;
}

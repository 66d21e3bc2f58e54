import { setTimeout as wait } from "node:timers/promises";
import pg from "pg";
import type { OutageLog } from "../shared/outage-log.ts";
import { listLockHolders, tryLockSession } from "./advisory-locks.ts";
import { lastReleaseSession } from "./last-release.ts";
import { closeWhenSilent } from "./silent-connections.ts";

export interface ServerLockOptions {
  /** postgres://user:password@host:port/name */
  readonly url: string;
  /** Named in the error of a server that this lock keeps from starting. */
  readonly serverName: string;
  /** True on servers whose counters are in Redis: they may hold the lock together. */
  readonly isShared: boolean;
  readonly outages: OutageLog;
  /** Called when another server has taken the lock after a lost connection: this server must grant nothing more. */
  readonly onTakeover: (reason: string) => void;
  /** Replaces in tests how long a lock that another server holds is waited for. */
  readonly waitMs?: number;
}

/** Long enough for a server that is stopping, or was killed, to release the lock. */
const defaultWaitMs = 3000;
const retryMs = 100;
const heartbeatMs = 1000;
const silenceMs = 3000;
const sessionPrefix = "tollgate_server ";

/**
 * Holds an advisory lock on its own connection while the server runs, so that a server with counters in its process is
 * the only one on its database. PostgreSQL releases the lock when the connection ends, so after a lost connection the
 * lock is acquired again, unless another server has taken it meanwhile.
 * @throws Error that names the server that holds the lock
 */
export async function holdServerLock(options: ServerLockOptions): Promise<{ close(): Promise<void> }> {
  const { outages, onTakeover } = options;
  let isClosed = false;
  let client = await acquireLock(options, onLost);

  function onLost(): void {
    if (isClosed) return;
    outages.lose("server lock");
    void reacquire();
  }

  async function reacquire(): Promise<void> {
    for (;;) {
      if (isClosed) return;
      try {
        client = await acquireLock(options, onLost);
        outages.restore("server lock");
        return;
      } catch (error) {
        if (error instanceof LockTakenError) return onTakeover(error.message);
        await wait(heartbeatMs, undefined, { ref: false });
      }
    }
  }

  return {
    async close() {
      isClosed = true;
      await Promise.race([client.end(), wait(heartbeatMs, undefined, { ref: false })]);
    },
  };
}

class LockTakenError extends Error {}

async function acquireLock(
  { url, serverName, isShared, waitMs = defaultWaitMs }: ServerLockOptions,
  onLost: () => void,
): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    application_name: `${sessionPrefix}${serverName}`.slice(0, 63),
    keepAlive: true,
    connectionTimeoutMillis: 5000,
  });
  client.on("error", () => undefined);
  await client.connect();
  closeWhenSilent(client, { limitMs: silenceMs });
  try {
    const startedMs = performance.now();
    for (;;) {
      const isTaken = await tryLockSession(client, "server", isShared ? "shared" : "exclusive");
      if (isTaken && (isShared || !(await hasLastRelease(client)))) break;
      if (performance.now() - startedMs > waitMs) {
        throw new LockTakenError(isTaken ? besideLastRelease : await describeHolders(client, isShared));
      }
      await wait(retryMs);
    }
    await keepLastReleaseFromRollUp(client);
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
  // Regular queries detect a silent connection, which would lose the lock unnoticed.
  const heartbeat = setInterval(() => void client.query("select 1").catch(() => undefined), heartbeatMs).unref();
  client.on("end", () => {
    clearInterval(heartbeat);
    onLost();
  });
  return client;
}

/**
 * Takes a lock that every server of this release holds, and waits for a roll-up of the last release that runs. From then on
 * servers of the last release leave the roll-up to this one.
 */
async function keepLastReleaseFromRollUp(client: pg.Client): Promise<void> {
  while (!(await tryLockSession(client, "auditRollUpOfLastRelease", "shared"))) await wait(retryMs);
}

const besideLastRelease =
  "a server of release 1.0 runs on this database. Without REDIS_URL there may be one server: stop that one first, or set the REDIS_URL that it has";

/** Servers of release 1.0 hold no lock. */
async function hasLastRelease(client: pg.Client): Promise<boolean> {
  const { rowCount } = await client.query(
    "select from pg_stat_activity where datname = current_database() and application_name = $1",
    [lastReleaseSession],
  );
  return rowCount !== 0;
}

async function describeHolders(client: pg.Client, isShared: boolean): Promise<string> {
  const sessions = await listLockHolders(client, "server");
  const names = sessions.map((name) => name.slice(sessionPrefix.length)).join(", ") || "another server";
  return isShared
    ? `a server without REDIS_URL runs on this database and counts in its own process: ${names}. Stop it first, or set the same REDIS_URL on all servers`
    : `another server runs on this database: ${names}. Without REDIS_URL there may be one: stop that one first, or set the same REDIS_URL on all servers. A rolling deployment runs two at a time and needs REDIS_URL`;
}

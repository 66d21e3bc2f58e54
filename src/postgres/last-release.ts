import type { Logger } from "pino";
import type { Database } from "./database.ts";
import { defineStatements, queryRows } from "./statements.ts";

/** The application_name of the session by which a server of release 1.0 receives notifications. */
export const lastReleaseSession = "tollgate_bus";

/** Knows whether servers of release 1.0 run on the database, as they do during an upgrade. */
export interface LastReleaseWatch {
  isRunning(): boolean;
  stop(): void;
}

export interface LastReleaseOptions {
  readonly database: Database;
  readonly logger: Logger;
  readonly intervalMs?: number;
}

/** A server whose session is lost has a new one within two seconds. */
const absentRounds = 10;

/**
 * Looks for servers of release 1.0 now, and every second while there are any. The watch ends ten seconds after the last one:
 * no other can start on a migrated database.
 */
export async function watchLastRelease(options: LastReleaseOptions): Promise<LastReleaseWatch> {
  const { database, logger, intervalMs = 1000 } = options;
  let isRunning = await isPresent(database);
  let absent = 0;
  let timer: NodeJS.Timeout | undefined;
  if (isRunning) {
    logger.info("servers of release 1.0 run on the database");
    timer = setInterval(() => void look().catch(() => undefined), intervalMs).unref();
  }

  async function look(): Promise<void> {
    absent = (await isPresent(database)) ? 0 : absent + 1;
    if (absent < absentRounds || !isRunning) return;
    isRunning = false;
    clearInterval(timer);
    logger.info("servers of release 1.0 have stopped");
  }

  return {
    isRunning: () => isRunning,
    stop: () => clearInterval(timer),
  };
}

async function isPresent(database: Database): Promise<boolean> {
  return (await queryRows(database, sql.findSessions, [lastReleaseSession])).length > 0;
}

const sql = defineStatements("last-release", {
  findSessions: `
    select pid from pg_stat_activity where datname = current_database() and application_name = $1`,
});

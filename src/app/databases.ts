import type { Logger } from "pino";
import type { Config } from "../config.ts";
import type { PoolSource } from "../metrics/sources.ts";
import { type Database, openDatabase, poolUseOf } from "../postgres/database.ts";
import { startEmbedded } from "../postgres/embedded/embedded.ts";
import { migrate } from "../postgres/migrate.ts";
import { holdServerLock } from "../postgres/server-lock.ts";
import { checkSession } from "../postgres/sessions.ts";
import { checkConnection } from "../postgres/statements.ts";
import { createRoundTrips } from "../shared/measures.ts";
import { createOutageLog, type OutageLog } from "../shared/outage-log.ts";
import type { Closers } from "./closers.ts";
import { withSettingNames } from "./setting-errors.ts";

export interface Databases {
  /** For connections outside the pools. */
  readonly url: string;
  readonly isEmbedded: boolean;
  readonly database: Database;
  /** A pool of its own: unauthenticated callers must not take connections from the ledger and authenticated calls. */
  readonly publicDatabase: Database;
  readonly pools: Readonly<Record<"calls" | "public", PoolSource>>;
  /** For connections outside the pools. */
  readonly outages: OutageLog;
}

export interface DatabasesOptions {
  readonly logger: Logger;
  /** Called when the embedded database ends unexpectedly. */
  readonly onFailure: (reason: string) => void;
  /** Called when another server counts on the same database: this server must drain and exit. */
  readonly onTakeover: (reason: string) => void;
}

/** Connections for work that needs no token: logins, health checks, and finding the user of a token. */
const publicPoolSize = 4;

/** Connects to PostgreSQL, or starts the embedded server for this process alone. Then migrates the tables. */
export async function openDatabases(config: Config, options: DatabasesOptions, closers: Closers): Promise<Databases> {
  const isEmbedded = config.DATABASE_URL === "";
  const outages = createOutageLog(options.logger, "postgresql");
  const url = isEmbedded ? await openEmbedded(config, options, closers) : config.DATABASE_URL;
  const open = (poolSize: number) => {
    const roundTrips = createRoundTrips();
    const opened = openDatabase({ url, poolSize, statementTimeoutMs: config.DATABASE_TIMEOUT_MS, roundTrips });
    closers.push(() => opened.destroy());
    return { opened, pool: { roundTrips, use: () => poolUseOf(opened) } };
  };
  const { opened: database, pool: calls } = open(config.DATABASE_POOL);
  const { opened: publicDatabase, pool: publicPool } = open(publicPoolSize);
  if (!isEmbedded) {
    await withSettingNames("DATABASE_URL", checkConnection(database));
    await checkSession(url);
    await holdLock(url, config, { ...options, outages }, closers);
  }
  await migrate(database);
  return { url, isEmbedded, database, publicDatabase, pools: { calls, public: publicPool }, outages };
}

async function openEmbedded(config: Config, { onFailure }: DatabasesOptions, closers: Closers): Promise<string> {
  const onExit = (): void => onFailure("the embedded PostgreSQL has ended");
  const embedded = await startEmbedded({ folder: config.DATA_DIR, onExit });
  closers.push(() => embedded.stop());
  return embedded.url;
}

async function holdLock(
  url: string,
  { SERVER_NAME, REDIS_URL }: Config,
  { onTakeover, outages }: DatabasesOptions & Pick<Databases, "outages">,
  closers: Closers,
): Promise<void> {
  const isShared = REDIS_URL !== "";
  const holding = holdServerLock({ url, serverName: SERVER_NAME, isShared, outages, onTakeover });
  const lock = await withSettingNames("REDIS_URL", holding);
  closers.push(() => lock.close());
}

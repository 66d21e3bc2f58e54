import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import type { HashCost } from "../accounts/auth/passwords.ts";
import { countUnsentAlerts } from "../alerts/outbox.ts";
import { openAudit } from "../audit/open-audit.ts";
import type { Config } from "../config.ts";
import { conversionUse } from "../data/convert.ts";
import { createDataCounts } from "../data/counts.ts";
import { findCodesWithData } from "../data/store.ts";
import { createRecentValue } from "../metrics/recent-value.ts";
import { createPipeline } from "../pipeline/pipeline.ts";
import { countLeases } from "../quotas/ledger/count-leases.ts";
import type { LedgerLimits } from "../quotas/ledger/ledger.ts";
import type { WatchLimits } from "../quotas/watch/usage-watches.ts";
import { openRedis } from "../redis/client.ts";
import { readFiles } from "../system/files.ts";
import { createHealthProbe } from "../system/probe.ts";
import { readVersion } from "../system/version.ts";
import { createUnauthenticatedConnections, defaultUnauthenticatedLimits } from "../transport/unauthenticated.ts";
import { openAuditSink } from "./audit-sink.ts";
import { openAuthentication } from "./authentication.ts";
import { type Closers, closeAll } from "./closers.ts";
import { openDatabases } from "./databases.ts";
import { ensureAdministrator } from "./first-administrator.ts";
import { openListener } from "./listener.ts";
import { type OnMetrics, openMetrics } from "./metrics.ts";
import { openQuotaWiring } from "./quota-wiring.ts";
import { openRecordWriters, openRetention } from "./records.ts";
import { createRoutes } from "./services.ts";

/** The fields of the log line "server started". */
export interface Started {
  readonly url: string;
  readonly documentation: string;
  readonly database: string;
  readonly counters: string;
  /** Absent when METRICS_PORT is empty. */
  readonly metrics?: string | undefined;
}

export interface App {
  readonly url: string;
  readonly started: Started;
  /** Drains and closes everything. `unwritten` is the number of leases that the ledger could not write within DRAIN_MS. */
  stop(options?: StopOptions): Promise<{ readonly unwritten: number }>;
}

export interface StopOptions {
  /** How long the server still takes calls after it has said that it is not ready. */
  readonly delayMs?: number;
}

export interface AppOptions {
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Replaces the clock of Redis in tests. Milliseconds since the epoch. */
  readonly redisNow?: (() => number) | undefined;
  /** Lowers the cost of password hashes in tests. No setting changes it. */
  readonly passwordCost?: HashCost | undefined;
  /** Lowers the limits of the ledger's queue in tests. No setting changes them. */
  readonly ledgerLimits?: LedgerLimits | undefined;
  /** Changes the limits of streams of usage in tests. No setting changes them. */
  readonly watchLimits?: Partial<WatchLimits> | undefined;
  /** Called when the embedded database ends unexpectedly. */
  readonly onFailure: (reason: string) => void;
  /** Called when another server counts on the same database: this server must drain and exit. */
  readonly onTakeover: (reason: string) => void;
  /** Shows a line to the person who starts the server; the log never has it. */
  readonly announce: (line: string) => void;
  /** Takes the metrics of a worker process, which has no port of its own for them. */
  readonly onMetrics?: OnMetrics | undefined;
}

/** Returns a logger whose lines LOG_LEVEL does not hide, for the lines of a start. */
export function noticesOf(logger: Logger): Logger {
  return logger.child({}, { level: "info" });
}

/** The folder of package.json, from src and from dist. */
const packageFolder = fileURLToPath(new URL("../..", import.meta.url));
/** Time to write the ledger, even when running calls take the whole drain. */
const minFlushMs = 1000;

/** Opens resources from the configuration and starts the server. On failure, it closes what it has opened. */
export async function startApp(config: Config, options: AppOptions): Promise<App> {
  const { logger } = options;
  const closers: Closers = [];
  let unwritten = 0;
  /** When the drain ends, by performance.now(). */
  let drainEndMs = 0;
  try {
    const { url, metrics, announceDrain } = await openApp(config, options, closers, {
      flushDeadlineMs: () => Math.max(drainEndMs, performance.now() + minFlushMs),
      onUnwritten(count) {
        unwritten = count;
        if (count > 0) logger.error({ unwritten: count }, "ledger not written before the drain ended");
      },
    });
    return {
      url,
      started: describeStart(config, url, metrics),
      async stop({ delayMs = 0 } = {}) {
        announceDrain();
        if (delayMs > 0) await wait(delayMs);
        drainEndMs = performance.now() + config.DRAIN_MS;
        await closeAll(closers);
        return { unwritten };
      },
    };
  } catch (error) {
    await closeAll(closers).catch((close: unknown) => logger.error({ err: close }, "close failed"));
    throw error;
  }
}

/** Opens each part on those before it. @returns what openListener returns, and the address of the metrics */
async function openApp(
  config: Config,
  { logger, now, redisNow, passwordCost, ledgerLimits, watchLimits, announce, onMetrics, ...events }: AppOptions,
  closers: Closers,
  drain: { readonly flushDeadlineMs: () => number; readonly onUnwritten: (count: number) => void },
): Promise<Awaited<ReturnType<typeof openListener>> & { readonly metrics: string | undefined }> {
  const metrics = openMetrics(config, { logger, onMetrics }, closers);
  const databases = await openDatabases(config, { logger, ...events }, closers);
  const { database, publicDatabase } = databases;
  const redis = config.REDIS_URL === "" ? undefined : openRedis(config.REDIS_URL, logger);
  closers.push(async () => redis?.disconnect());
  const unnoticedMs = () => notifications.unnoticedMs();
  const { securityLog, ...writers } = openRecordWriters(config, { database, logger, now, unnoticedMs }, closers);
  const { secrets, refusals, ...authentication } = await openAuthentication(config, {
    publicDatabase,
    redis,
    securityLog,
    passwordCost,
    now,
  });
  const { authenticator, hashNewPassword } = authentication;
  await ensureAdministrator(config, { databases, hashNewPassword, announce, notices: noticesOf(logger) });

  const { quotas, subjects, notifications, corrections, deliveries, redisSource } = await openQuotaWiring(
    config,
    {
      databases,
      redis,
      redisNow,
      ledgerLimits,
      watchLimits,
      secrets,
      ...writers,
      authenticator,
      logger,
      now,
      ...drain,
    },
    closers,
  );
  openRetention(config, { database, logger, now }, closers);
  const auditSink = openAuditSink(config, { database, publicDatabase, logger, now }, closers);
  const unauthenticated = createUnauthenticatedConnections(defaultUnauthenticatedLimits);
  const calls = metrics?.calls;
  const pipeline = createPipeline({
    database,
    logger,
    serverName: config.SERVER_NAME,
    now,
    authenticator,
    calls,
    actions: writers.actions,
    securityLog,
    caughtUp: () => notifications.caughtUp(),
    onAuthenticated: unauthenticated.recognize,
  });
  const audit = openAudit({
    database,
    logger,
    ...writers,
    now,
    retentionDays: config.AUDIT_RETENTION_DAYS,
    findData: (listed) => findCodesWithData(database, listed),
  });
  const data = {
    database,
    now,
    maxBytes: config.DATA_MAX_BYTES,
    pieceTimeoutMs: config.BODY_TIMEOUT_MS,
    counts: createDataCounts(),
    findUser: (name: string) => subjects.byName(name),
  };
  const version = await readVersion(packageFolder, config.COMMIT);
  const routes = createRoutes(pipeline, {
    database,
    probe: createHealthProbe({ database: publicDatabase, redis, now: () => performance.now() }),
    ...authentication,
    securityLog,
    quotas,
    audit,
    data,
    thresholds: config.ALERT_THRESHOLDS,
    files: await readFiles(`${packageFolder}/gen/docs`, `${packageFolder}/gen`),
    version,
    now,
  });
  const server = await openListener(config, { routes, pipeline, calls, unauthenticated, logger, now }, closers);
  // Stops first: otherwise the drain waits for delayed refusals.
  closers.push(async () => refusals.stop());
  // Ends streams that would last as long as the drain. Clients open them again on another server.
  closers.push(async () => quotas.watches.stop());
  const metricsAddress = await metrics?.serve({
    version: `${version.major}.${version.minor}.${version.build}`,
    decisions: quotas.counts,
    leases: createRecentValue(() => countLeases(publicDatabase)),
    queues: { ledger: quotas.ledger, audit: audit.batches },
    rebuilds: quotas.rebuilds,
    corrections,
    alerts: deliveries && {
      deliveries,
      totals: createRecentValue(() => countUnsentAlerts(publicDatabase)),
    },
    isAlone: quotas.isAlone,
    caches: { users: subjects.cacheUses, accounts: authenticator.cacheUses },
    redis: redisSource,
    pools: databases.pools,
    data: data.counts,
    auditSink,
    conversions: conversionUse,
  });
  return { ...server, metrics: metricsAddress };
}

function describeStart(
  { DATABASE_URL, REDIS_URL, DATA_DIR }: Config,
  url: string,
  metrics: string | undefined,
): Started {
  return {
    url,
    documentation: `${url}/admin/file/admin_en.html`,
    database: DATABASE_URL === "" ? `embedded PostgreSQL in ${DATA_DIR}` : "PostgreSQL",
    counters: REDIS_URL === "" ? "in this process" : "Redis",
    metrics,
  };
}

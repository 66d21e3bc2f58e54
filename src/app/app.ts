import { readFile, rm, writeFile } from "node:fs/promises";
import { isIPv6 } from "node:net";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { createSecureContext } from "node:tls";
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import { createFailureCounts } from "../accounts/auth/failure-counts.ts";
import { createFirstAdministrator } from "../accounts/auth/first-administrator.ts";
import { createLogin } from "../accounts/auth/login.ts";
import { createLoginSlots } from "../accounts/auth/login-slots.ts";
import { createNewPasswords } from "../accounts/auth/new-passwords.ts";
import { createPacedRefusals } from "../accounts/auth/paced-refusals.ts";
import { createPasswords, type HashCost } from "../accounts/auth/passwords.ts";
import { createAuthenticator } from "../accounts/auth/service.ts";
import { createLoginThrottle } from "../accounts/auth/throttle.ts";
import { keptSecret } from "../accounts/auth/token-keys.ts";
import { createTokens } from "../accounts/auth/tokens.ts";
import { ensureCompany } from "../accounts/companies/store.ts";
import { findUserCompanies, insertUser } from "../accounts/users/store.ts";
import { openAudit } from "../audit/open-audit.ts";
import { createRollUp, dropAuditTotals } from "../audit/roll-up.ts";
import { createSecurityLog } from "../audit/security-log.ts";
import { createUserHistory } from "../audit/user-history.ts";
import { createActionWriter } from "../audit/writer.ts";
import { type Config, ConfigError } from "../config.ts";
import { dropFiles, findCodesWithData } from "../data/store.ts";
import { createErrorBodies } from "../pipeline/error-body.ts";
import { createPipeline } from "../pipeline/pipeline.ts";
import { openDatabase } from "../postgres/database.ts";
import { type EmbeddedServer, startEmbedded } from "../postgres/embedded/embedded.ts";
import { migrate } from "../postgres/migrate.ts";
import { openNotifications } from "../postgres/notifications.ts";
import { startRetention } from "../postgres/retention.ts";
import { holdServerLock } from "../postgres/server-lock.ts";
import { createCorrections } from "../quotas/counters/corrections.ts";
import { dropChargedDays } from "../quotas/ledger/charged-days.ts";
import { createLedger } from "../quotas/ledger/ledger.ts";
import { pointDays } from "../quotas/ledger/verify.ts";
import { createSubjects } from "../quotas/limits/subjects.ts";
import { openEngine, openQuotas } from "../quotas/open-quotas.ts";
import { openRedis } from "../redis/client.ts";
import { readFiles } from "../system/files.ts";
import { createHealthProbe } from "../system/probe.ts";
import { readVersion } from "../system/version.ts";
import { startServer } from "../transport/server.ts";
import { createUnauthenticatedConnections, defaultUnauthenticatedLimits } from "../transport/unauthenticated.ts";
import { createUsageWriter } from "../usage/writer.ts";
import { createRoutes } from "./services.ts";

/** What an operator wants to know of a server that has started. */
export interface Started {
  readonly url: string;
  readonly documentation: string;
  readonly database: string;
  readonly counters: string;
}

export interface App {
  readonly url: string;
  /** The fields of the log line "server started". */
  readonly started: Started;
  /**
   * Drains and closes everything. `unwritten`: leases that the ledger could not write within DRAIN_MS; the log says how
   * many, too.
   */
  stop(): Promise<{ readonly unwritten: number }>;
}

export interface AppOptions {
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Tests move the clock of the counters in Redis; without it Redis' own counts. */
  readonly redisNow?: (() => number) | undefined;
  /** Tests that are not about passwords hash them at a low cost. No setting changes it. */
  readonly passwordCost?: HashCost | undefined;
  /** Called when the embedded database ends without being told. */
  readonly onFailure: (reason: string) => void;
  /** Called when another server counts on the same database: this one must drain and end. */
  readonly onTakeover: (reason: string) => void;
  /** Shows a line to the person who starts the server; the log never has it. */
  readonly announce: (line: string) => void;
}

/** A log whose lines LOG_LEVEL does not hide: an operator needs what a start says. */
export function noticesOf(logger: Logger): Logger {
  return logger.child({}, { level: "info" });
}

/** The folder of package.json, from src and from dist. */
const packageFolder = fileURLToPath(new URL("../..", import.meta.url));
/** Time to write the ledger, even when running calls take the whole drain. */
const minFlushMs = 1000;
const loginWindowMs = 900_000;
/** Connections for work that needs no token: logins, health checks, and finding the user of a token. */
const publicPoolSize = 4;

/** Opens resources from the configuration and starts the server. On failure, it closes what it has opened. */
export async function startApp(
  config: Config,
  { logger, now, redisNow, passwordCost, onFailure, onTakeover, announce }: AppOptions,
): Promise<App> {
  const opened: (() => Promise<unknown>)[] = [];
  const notices = noticesOf(logger);
  const closeAll = async () => {
    let failure: unknown;
    // A resource that fails to close must not keep the others open.
    for (const close of opened.toReversed()) await close().catch((error: unknown) => (failure ??= error));
    if (failure !== undefined) throw failure;
  };
  try {
    const embedded = config.DATABASE_URL === "" ? await openEmbedded() : undefined;
    const url = embedded?.url ?? config.DATABASE_URL;
    const database = openDatabase({
      url,
      poolSize: config.DATABASE_POOL,
      statementTimeoutMs: config.DATABASE_TIMEOUT_MS,
    });
    opened.push(() => database.destroy());
    // A pool of its own: unauthenticated callers must not take connections from the ledger and authenticated calls.
    const publicDatabase = openDatabase({
      url,
      poolSize: publicPoolSize,
      statementTimeoutMs: config.DATABASE_TIMEOUT_MS,
    });
    opened.push(() => publicDatabase.destroy());
    if (embedded === undefined) await naming("DATABASE_URL", database.raw("select 1"));
    if (embedded === undefined) {
      const holding = holdServerLock({
        url,
        serverName: config.SERVER_NAME,
        isShared: config.REDIS_URL !== "",
        logger,
        onTakeover,
      });
      const lock = await naming("REDIS_URL", holding);
      opened.push(() => lock.close());
    }
    await migrate(database);

    const secrets = config.TOKEN_KEYS.length > 0 ? config.TOKEN_KEYS : [await keptSecret(config.DATA_DIR)];
    const tokens = createTokens(secrets, now);
    const passwords = await createPasswords({ cost: passwordCost });
    const redis = config.REDIS_URL === "" ? undefined : openRedis(config.REDIS_URL, logger);
    opened.push(async () => redis?.disconnect());
    const throttle = createLoginThrottle(
      createFailureCounts({ database: publicDatabase, redis }, now),
      {
        byNameAndAddress: config.LOGIN_FAILURES,
        byAddress: config.LOGIN_FAILURES_BY_ADDRESS,
        windowMs: loginWindowMs,
      },
      now,
    );
    // A password hash keeps a core busy. Half of the cores stay free for other work.
    const slots = createLoginSlots({ concurrency: Math.max(1, Math.floor(availableParallelism() / 2)) });
    const refusals = createPacedRefusals();
    const rollUp = createRollUp({ database, logger });
    opened.push(() => rollUp.stop());
    const actions = createActionWriter(database, rollUp);
    const securityLog = createSecurityLog({
      database,
      logger,
      actions,
      companiesOf: (usernames) => findUserCompanies(database, usernames),
      serverName: config.SERVER_NAME,
      now,
    });
    opened.push(() => securityLog.stop());
    const login = createLogin({ database: publicDatabase, passwords, throttle, slots, refusals, securityLog });
    const hashNewPassword = await createNewPasswords(passwords, config.PASSWORD_POLICY);
    const hashFirst = (password: string) =>
      hashNewPassword({ username: config.ADMIN_USERNAME, password, field: "ADMIN_PASSWORD" });
    const passwordFile = embedded && config.ADMIN_PASSWORD === "" ? join(config.DATA_DIR, "admin.password") : undefined;
    const isCreated = await createFirstAdministrator(
      database,
      hashFirst,
      { ensureCompany, insertUser },
      {
        username: config.ADMIN_USERNAME,
        password: config.ADMIN_PASSWORD,
        companyKey: config.ADMIN_COMPANY,
        handOver: (password) =>
          passwordFile === undefined ? showPassword(password) : writePassword(passwordFile, password),
      },
    );
    if (isCreated) notices.info({ username: config.ADMIN_USERNAME, passwordFile }, "first administrator created");

    const serverName = config.SERVER_NAME;
    const files = await readFiles(`${packageFolder}/gen/docs`, `${packageFolder}/gen`);
    const version = await readVersion(packageFolder, config.COMMIT);
    const authenticator = createAuthenticator({ database: publicDatabase, tokens, now });
    const subjects = createSubjects({ database, now });
    const userHistory = createUserHistory(database);
    const usage = createUsageWriter(database);
    const ledger = createLedger({
      database,
      logger,
      actions,
      usage,
      onContradiction: (meter) => void corrections.correct(meter),
    });
    const corrections = createCorrections({ forget: (meter) => quotas.counters.forget(meter), logger });
    opened.push(async () => corrections.stop());
    const remember = { ms: config.QUOTA_REMEMBER_SECONDS * 1000, operations: config.QUOTA_REMEMBER_OPERATIONS };
    const engine = redis && openEngine({ redis, database, logger, now: redisNow, remember });
    let comeBack = async () => {};
    const onFlush = async () => {
      // Every grant of Redis must have reached the ledger before it is flushed.
      await engine?.drainReplies();
      await ledger.flush();
    };
    const notifications = await openNotifications({
      url,
      logger,
      onUsers(userIds) {
        authenticator.forget(userIds);
        subjects.invalidate(userIds);
        userHistory.invalidate();
      },
      onGeneration: () => engine?.invalidateGeneration(),
      onFlush,
      async onRecall() {
        await comeBack();
        await onFlush();
      },
    });
    opened.push(() => notifications.close());
    let unwritten = 0;
    /** When the drain ends, by performance.now(). */
    let drainEndMs = 0;
    opened.push(async () => {
      const leftMs = Math.max(drainEndMs - performance.now(), minFlushMs);
      await Promise.race([ledger.flush(), wait(leftMs, undefined, { ref: false })]);
      unwritten = ledger.pending();
      if (unwritten > 0) logger.error({ unwritten }, "the ledger was not written before the drain ended: it is lost");
    });
    const stopKeeping = startRetention({ database, logger, now }, [
      {
        table: "lease",
        days: config.LEDGER_RETENTION_DAYS,
        deleteDependents: (beforeMs) => dropChargedDays(database, beforeMs),
      },
      { table: "usage_point", days: pointDays },
      {
        table: "audit_action",
        days: config.AUDIT_RETENTION_DAYS,
        deleteDependents: (beforeMs) => dropAuditTotals(database, beforeMs),
      },
      {
        table: "data_chunk",
        days: config.DATA_RETENTION_DAYS,
        deleteDependents: (beforeMs) => dropFiles(database, beforeMs),
      },
    ]);
    opened.push(async () => stopKeeping());
    const quotas = openQuotas({
      database,
      engine,
      ledger,
      notifications,
      subjects,
      logger,
      secrets,
      now,
      unlimitedByDefault: config.QUOTA_DEFAULT === "unlimited",
      remember,
      durable: config.LEDGER_ACK === "commit",
      failOpen: config.QUOTA_FAIL_OPEN,
    });
    comeBack = quotas.leaveFailOpen;

    const strangers = createUnauthenticatedConnections(defaultUnauthenticatedLimits);
    const pipeline = createPipeline({
      database,
      logger,
      serverName,
      now,
      authenticator,
      actions,
      securityLog,
      caughtUp: () => notifications.caughtUp(),
      onAuthenticated: strangers.recognize,
    });
    const auth = { hashNewPassword, tokens, login, authenticator, securityLog };
    const probe = createHealthProbe({ database: publicDatabase, redis, now: () => performance.now() });
    const audit = openAudit({
      database,
      logger,
      actions,
      usage,
      userHistory,
      now,
      retentionDays: config.AUDIT_RETENTION_DAYS,
      findData: (listed) => findCodesWithData(database, listed),
    });
    const data = {
      database,
      now,
      maxBytes: config.DATA_MAX_BYTES,
      pieceTimeoutMs: config.BODY_TIMEOUT_MS,
      findUser: (name: string) => subjects.byName(name),
    };
    const routes = createRoutes(pipeline, { database, probe, ...auth, quotas, audit, data, files, version, now });
    const tls = await naming("TLS_CERT and TLS_KEY", readTls(config));
    const serving = startServer({
      routes,
      pipeline,
      describeError: createErrorBodies({ serverName, now, logger }, pipeline),
      unauthenticated: strangers,
      host: config.HOST,
      port: config.PORT,
      tls,
      maxBodyBytes: config.MAX_BODY_BYTES,
      bodyTimeoutMs: config.BODY_TIMEOUT_MS,
      trustedProxies: config.TRUSTED_PROXIES,
      onAcceptError: (error) => logger.error({ err: error }, "a connection could not be accepted"),
    });
    const listener = await naming("HOST and PORT", serving);
    opened.push(() => listener.drain(config.DRAIN_MS));
    opened.push(async () => refusals.stop());

    const scheme = config.TLS_CERT === "" ? "http" : "https";
    const address = `${scheme}://${urlHost(config.HOST)}:${listener.port}`;
    return {
      url: address,
      started: describeStart(config, address),
      async stop() {
        drainEndMs = performance.now() + config.DRAIN_MS;
        await closeAll();
        return { unwritten };
      },
    };
  } catch (error) {
    await closeAll().catch((close: unknown) => logger.error({ err: close }, "not closed"));
    throw error;
  }

  async function showPassword(password: string): Promise<void> {
    announce(`The first administrator is ${config.ADMIN_USERNAME}, password ${password} (it is not shown again).`);
  }

  async function openEmbedded(): Promise<EmbeddedServer> {
    const embedded = await startEmbedded({
      folder: config.DATA_DIR,
      onExit: () => onFailure("the embedded PostgreSQL has ended"),
    });
    opened.push(() => embedded.stop());
    return embedded;
  }
}

/** Returns the host for a URL: wildcard addresses become loopback, IPv6 addresses get brackets. */
function urlHost(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (host === "::") return "[::1]";
  return isIPv6(host) ? `[${host.replace("%", "%25")}]` : host;
}

/** @throws ConfigError that names the setting, when the work fails */
async function naming<Result>(settings: string, work: PromiseLike<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    // After several attempts, Node has the text in the first of the errors.
    const cause: unknown = error instanceof AggregateError ? error.errors[0] : error;
    throw new ConfigError(`${settings}: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
}

async function readTls({ TLS_CERT, TLS_KEY }: Config): Promise<{ cert: string; key: string } | undefined> {
  if (TLS_CERT === "") return undefined;
  const [cert, key] = await Promise.all([readFile(TLS_CERT, "utf8"), readFile(TLS_KEY, "utf8")]);
  // Throws when the certificate is invalid or does not match the key.
  createSecureContext({ cert, key });
  return { cert, key };
}

function describeStart({ DATABASE_URL, REDIS_URL, DATA_DIR }: Config, url: string): Started {
  return {
    url,
    documentation: `${url}/admin/file/admin_en.html`,
    database: DATABASE_URL === "" ? `embedded PostgreSQL in ${DATA_DIR}` : "PostgreSQL",
    counters: REDIS_URL === "" ? "in this process" : "Redis",
  };
}

/** Writes the password to a file that only its owner may read. An earlier one belongs to no administrator. */
async function writePassword(file: string, password: string): Promise<void> {
  await rm(file, { force: true });
  await writeFile(file, `${password}\n`, { mode: 0o600, flag: "wx", flush: true });
}

import { access, constants, stat } from "node:fs/promises";
import { Cluster, type Redis } from "ioredis";
import pino from "pino";
import { type Config, ConfigError, readConfig } from "../config.ts";
import type { Database } from "../postgres/database.ts";
import { defineStatements, queryRows } from "../postgres/statements.ts";
import { openRedis } from "../redis/client.ts";
import type { CommandInput } from "./command.ts";
import { describeError, exitCodes } from "./exit-codes.ts";
import { withDatabase } from "./local-database.ts";

interface Finding {
  readonly check: string;
  readonly state: "ok" | "problem";
  /** The value that was found. For a problem, also what to do. */
  readonly detail: string;
}

/** The most that clocks may differ. A lease's proof and tokens tolerate more, log lines of several servers do not. */
const maxClockDifferenceMs = 2000;
const oldestPostgres = 15;
const oldestRedis = 7;

/** Checks settings, versions, locale, extensions, eviction policy and clocks, and says what to do. Exits with 1 if it found a problem. */
export async function diagnose(input: CommandInput): Promise<number> {
  const findings: Finding[] = [checkNode()];
  const config = readSettings(input, findings);
  if (config !== undefined) {
    await collect(findings, "postgres", () => withDatabase(input, (database) => checkDatabase(database)));
    if (config.REDIS_URL !== "") await collect(findings, "redis", () => checkRedis(config.REDIS_URL));
    if (config.DATABASE_URL === "") await collect(findings, "data folder", () => checkFolder(config.DATA_DIR));
  }
  input.output.rows(findings.map((finding) => ({ ...finding })));
  return findings.some(({ state }) => state === "problem") ? exitCodes.found : exitCodes.fine;
}

function judge(check: string, isOk: boolean, detail: string, advice: string): Finding {
  return { check, state: isOk ? "ok" : "problem", detail: isOk ? detail : `${detail}: ${advice}` };
}

async function collect(findings: Finding[], check: string, run: () => Promise<Finding[]>): Promise<void> {
  try {
    findings.push(...(await run()));
  } catch (error) {
    findings.push({ check, state: "problem", detail: describeError(error) });
  }
}

function checkNode(): Finding {
  const { node } = process.versions;
  return judge("node", isSupportedNode(node), process.version, "use Node 20.19.2 or later, 22 or 24");
}

/**
 * Whether the service runs on a version of Node, such as `20.19.2`. The HTTP parser of earlier ones accepts malformed requests
 * with which a caller smuggles requests through a proxy (CVE-2025-23167).
 */
export function isSupportedNode(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = version.split(".").map(Number);
  if (major === 20) return minor > 19 || (minor === 19 && patch >= 2);
  return major > 20 && major < 25;
}

function readSettings({ environment }: CommandInput, findings: Finding[]): Config | undefined {
  try {
    const config = readConfig(environment);
    findings.push({ check: "settings", state: "ok", detail: "all can be read" });
    return config;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    findings.push({ check: "settings", state: "problem", detail: error.message });
    return undefined;
  }
}

interface ServerState {
  version: number;
  encoding: string;
  folds: boolean;
  missing: readonly string[];
  now: number;
  superuser: boolean;
  migrated: boolean;
}

const sql = defineStatements("cli-doctor", {
  readServerState: `
    select current_setting('server_version_num')::integer as version, current_setting('server_encoding') as encoding,
      lower('É') = 'é' as folds,
      array(
        select name from unnest(array['pg_trgm', 'btree_gist']) as name
        where name not in (select name from pg_available_extensions)
      ) as missing,
      (extract(epoch from clock_timestamp()) * 1000)::float8 as now,
      (select rolsuper from pg_roles where rolname = current_user) as superuser,
      to_regclass('migration') is not null as migrated`,
});

async function checkDatabase(database: Database): Promise<Finding[]> {
  const before = Date.now();
  const rows = await queryRows<ServerState>(database, sql.readServerState);
  const [row] = rows;
  if (row === undefined) throw new Error("PostgreSQL returned no row");
  const { version, encoding, folds, missing, now, superuser, migrated } = row;
  const difference = differenceOf(now, before, Date.now());
  return [
    judge(
      "postgres version",
      version >= oldestPostgres * 10_000,
      String(version),
      `use PostgreSQL ${oldestPostgres} or later`,
    ),
    judge("postgres encoding", encoding === "UTF8", encoding, "create the database with encoding UTF8"),
    judge(
      "postgres locale",
      folds,
      folds ? "knows the case of all letters" : "knows the case of ASCII letters only",
      "create the database with a locale such as C.UTF-8, not C",
    ),
    judge(
      "postgres extensions",
      missing.length === 0,
      missing.length === 0 ? "pg_trgm and btree_gist are available" : `missing: ${missing.join(", ")}`,
      "install the package postgresql-contrib, which comes with PostgreSQL",
    ),
    judge(
      "postgres role",
      !superuser,
      superuser ? "superuser" : "no superuser",
      "use a role that owns the database only",
    ),
    judge("postgres tables", migrated, migrated ? "present" : "absent", "run `tollgate migrate`"),
    judge(
      "postgres clock",
      difference <= maxClockDifferenceMs,
      `${difference} ms apart`,
      "synchronize the clocks (NTP)",
    ),
  ];
}

async function checkRedis(url: string): Promise<Finding[]> {
  const redis = openRedis(url, pino({ level: "silent" }));
  try {
    if (redis.status !== "ready") await untilReady(redis);
    const nodes = redis instanceof Cluster ? redis.nodes("master") : [redis];
    return (await Promise.all(nodes.map(checkRedisNode))).flat();
  } finally {
    redis.disconnect();
  }
}

function untilReady(redis: Redis | Cluster): Promise<void> {
  return new Promise((resolve, reject) => {
    redis.once("ready", () => resolve());
    redis.once("error", reject);
  });
}

async function checkRedisNode(node: Redis): Promise<Finding[]> {
  const name = `redis ${node.options.host}:${node.options.port}`;
  const info = await node.info();
  const valueOf = (key: string) => new RegExp(`^${key}:(.*)$`, "m").exec(info)?.[1]?.trim() ?? "";
  const version = valueOf("redis_version");
  const policy = valueOf("maxmemory_policy");
  const before = Date.now();
  const [seconds = 0, micros = 0] = (await node.time()).map(Number);
  const difference = differenceOf(seconds * 1000 + micros / 1000, before, Date.now());
  return [
    judge(`${name} version`, Number.parseInt(version, 10) >= oldestRedis, version, `use Redis ${oldestRedis} or later`),
    judge(
      `${name} eviction`,
      policy === "noeviction",
      policy,
      "set maxmemory-policy noeviction: evicted counters must be rebuilt",
    ),
    judge(
      `${name} clock`,
      difference <= maxClockDifferenceMs,
      `${difference} ms apart`,
      "synchronize the clocks (NTP)",
    ),
  ];
}

/** Milliseconds that a clock, read between `before` and `after`, is outside that range. */
function differenceOf(theirs: number, before: number, after: number): number {
  return Math.round(Math.max(0, before - theirs, theirs - after));
}

async function checkFolder(folder: string): Promise<Finding[]> {
  await access(folder, constants.W_OK);
  const mode = (await stat(folder)).mode & 0o777;
  return [
    judge("data folder", (mode & 0o077) === 0, `${folder} has mode ${mode.toString(8)}`, `run chmod 700 ${folder}`),
  ];
}

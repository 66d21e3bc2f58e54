import { once } from "node:events";
import { parseArgs } from "node:util";
import pino from "pino";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { readConfig } from "../config.ts";
import { type Database, openDatabase } from "../postgres/database.ts";
import { startEmbedded } from "../postgres/embedded/embedded.ts";
import { hasUsageTables, type UsageDifference, verifyUsage } from "../quotas/ledger/verify.ts";
import { verifyCounters } from "../quotas/ledger/verify-counters.ts";
import { verifyLeases } from "../quotas/ledger/verify-leases.ts";
import { openRedis } from "../redis/client.ts";
import { dayAt, parseDay, toIsoDay } from "../shared/calendar.ts";

/** A lease may be settled up to this many days after its own day. */
const maxSettlementDays = 40;
/** Long: the period may span years of leases. */
const statementTimeoutMs = 3_600_000;

try {
  process.exitCode = await verify();
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
}

/** @returns 0 when usage, ledger and counters agree, else 1 */
async function verify(): Promise<number> {
  const { values } = parseArgs({ options: { from: { type: "string" }, to: { type: "string" } } });
  const { from, to } = values;
  if (from === undefined || to === undefined) throw new Error("--from YYYY-MM-DD and --to YYYY-MM-DD must be set");
  const period = { from: parseDay("--from", from), to: parseDay("--to", to) };
  const config = readConfig(process.env);
  const embedded =
    config.DATABASE_URL === "" ? await startEmbedded({ folder: config.DATA_DIR, onExit: () => {} }) : undefined;
  const database = openDatabase({ url: embedded?.url ?? config.DATABASE_URL, poolSize: 1, statementTimeoutMs });
  try {
    if (!(await hasUsageTables(database))) throw new Error("the database must hold usage: start a server on it first");
    const today = dayAt(Date.now(), 0);
    const { compared, differences } = await verifyUsage(database, { ...period, today: toIsoDay(today) });
    for (const difference of differences) console.log(describe(difference));
    console.log(`${compared} rows of usage compared with the ledger, ${differences.length} differ`);
    const keptFrom = toIsoDay(today - (config.LEDGER_RETENTION_DAYS - maxSettlementDays));
    const found = await verifyLeases(database, { ...period, keptFrom });
    for (const line of found) console.log(line);
    console.log(`settled leases compared with the sums of their days and the audit log, ${found.length} differ`);
    const counters = config.REDIS_URL === "" ? undefined : await compareCounters(database, config.REDIS_URL);
    return differences.length + found.length + (counters ?? 0) === 0 ? 0 : 1;
  } finally {
    await database.destroy();
    await embedded?.stop();
  }
}

/** @returns the number of meters that differ */
async function compareCounters(database: Database, url: string): Promise<number> {
  const redis = openRedis(url, pino({ level: "silent" }));
  try {
    if (redis.status !== "ready") await once(redis, "ready");
    const { compared, differences } = await verifyCounters(database, redis);
    for (const line of differences) console.log(line);
    console.log(`${compared} meters in Redis compared with the ledger, ${differences.length} differ`);
    return differences.length;
  } finally {
    redis.disconnect();
  }
}

function describe({ date, username, user_id, company_key, ...rest }: UsageDifference): string {
  const { service, method_group, usage, ledger } = rest;
  const numbers = (name: string, values: readonly number[] | null) =>
    values === null
      ? `${name} has none`
      : `${name} has ${values[0]} requests, ${values[1]} points, ${values[2]} unique points`;
  const method = `${Service_Name[service]} ${Method_Group[method_group]}`;
  const user = company_key === null ? `${username} (${user_id})` : `${username} (${user_id}) of ${company_key}`;
  return `${date} ${user} ${method}: ${numbers("the usage", usage)}; ${numbers("the ledger", ledger)}`;
}

import { once } from "node:events";
import pino from "pino";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { readConfig } from "../config.ts";
import type { Database } from "../postgres/database.ts";
import { hasUsageTables, type UsageDifference, verifyUsage } from "../quotas/ledger/verify.ts";
import { verifyCounters } from "../quotas/ledger/verify-counters.ts";
import { verifyLeases } from "../quotas/ledger/verify-leases.ts";
import { openRedis } from "../redis/client.ts";
import { dayAt, parseDay, toIsoDay } from "../shared/calendar.ts";
import { type CommandInput, requireOption, UsageError } from "./command.ts";
import { describeError, exitCodes } from "./exit-codes.ts";
import { withDatabase } from "./local-database.ts";

/** A lease may be settled up to this many days after its own day. */
const maxSettlementDays = 40;

/** Compares the usage, the ledger and the counters in Redis. Prints each difference, and exits with 1 if there is one. */
export async function verifyRecords(input: CommandInput): Promise<number> {
  const period = { from: dayOption(input, "from"), to: dayOption(input, "to") };
  const { LEDGER_RETENTION_DAYS, REDIS_URL } = readConfig(input.environment);
  const today = dayAt(Date.now(), 0);
  const keptFrom = toIsoDay(today - (LEDGER_RETENTION_DAYS - maxSettlementDays));
  return withDatabase(input, async (database) => {
    if (!(await hasUsageTables(database))) throw new Error("the database must hold usage: start a server on it first");
    const usage = await verifyUsage(database, { ...period, today: toIsoDay(today) });
    const leases = await verifyLeases(database, { ...period, keptFrom });
    const counters = REDIS_URL === "" ? undefined : await compareCounters(database, REDIS_URL);
    const differences = [...usage.differences.map(describe), ...leases, ...(counters?.differences ?? [])];
    for (const difference of differences) input.output.value({ difference }, difference);
    const { note } = input.output;
    note(`${usage.compared} rows of usage compared with the ledger, ${usage.differences.length} differ`);
    note(`settled leases compared with the sums of their days and the audit log, ${leases.length} differ`);
    if (counters !== undefined)
      note(`${counters.compared} meters in Redis compared with the ledger, ${counters.differences.length} differ`);
    return differences.length === 0 ? exitCodes.fine : exitCodes.found;
  });
}

/** @throws UsageError when the option is not a day */
function dayOption(input: CommandInput, name: string): string {
  const text = requireOption(input, name);
  try {
    return parseDay(`--${name}`, text);
  } catch (error) {
    throw new UsageError(describeError(error));
  }
}

async function compareCounters(database: Database, url: string) {
  const redis = openRedis(url, pino({ level: "silent" }));
  try {
    if (redis.status !== "ready") await once(redis, "ready");
    return await verifyCounters(database, redis);
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

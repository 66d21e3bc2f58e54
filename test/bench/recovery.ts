/**
 * Loses Redis with many active meters, and requests all of them concurrently. Run by hand: npm run bench:recovery. It needs
 * redis-server. METERS=100000 CALLERS=256: meters, and concurrent decisions.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import pLimit from "p-limit";
import pino from "pino";
import { openDatabase } from "../../src/postgres/database.ts";
import { startEmbedded } from "../../src/postgres/embedded/embedded.ts";
import { migrate } from "../../src/postgres/migrate.ts";
import { openNotifications } from "../../src/postgres/notifications.ts";
import { ensurePartitions } from "../../src/postgres/partitions.ts";
import { createCounters } from "../../src/quotas/counters/counters.ts";
import { createRedisEngine } from "../../src/quotas/counters/redis.ts";
import { readSnapshot } from "../../src/quotas/ledger/read.ts";
import { dayMs } from "../../src/shared/calendar.ts";
import { createOutageLog } from "../../src/shared/outage-log.ts";
import { startRedis } from "../support/redis.ts";
import { median, seconds, timed } from "./fixture.ts";

const setting = (name: string, value: number) => Number(process.env[name] ?? value);
const meters = setting("METERS", 100_000);
const callers = setting("CALLERS", 256);
const poolSize = 10;
/** The settled leases of each meter. One more lease runs. */
const settled = 5;
const keptDays = 400;

const remember = { ms: dayMs, operations: 2000 };
const rules = { timezone: 0, quotas: [{ pointsPerDay: 1000 }] };
const today = Math.floor(Date.now() / dayMs);

// Comes first: without redis-server nothing may be left running.
const server = await startRedis();
const folder = await mkdtemp(join(tmpdir(), "tollgate-bench-"));
await chmod(folder, 0o711);
const settings = { synchronous_commit: "off", max_locks_per_transaction: "256" };
const postgres = await startEmbedded({ folder, settings, onExit: () => console.error("PostgreSQL has ended") });
const database = openDatabase({ url: postgres.url, poolSize, statementTimeoutMs: 600_000 });
const redis = new Redis(server.url);
const counts = { reads: 0, underWay: 0, most: 0, flushes: 0, connections: 0 };
const ignore = async () => undefined;
try {
  await migrate(database);
  await fill();
  await measure();
} finally {
  redis.disconnect();
  await database.destroy();
  await postgres.stop();
  await server.kill();
  await rm(folder, { recursive: true });
}

async function fill(): Promise<void> {
  const days = Array.from({ length: keptDays + 3 }, (_none, index) => today + 3 - index);
  await ensurePartitions(database, "lease", new Set(days));
  await database.raw(
    `insert into lease (day, user_id, service, method_group, operation_id, username, company_key, timezone, points,
       granted_at, expire_at, state, ended_at, settled_points, tracecode, holder)
     select date '1970-01-01' + :today::integer, user_id, 1, 1, gen_random_uuid(), 'user', 'company', 0, 3, now(),
       now() + interval '1 hour', case when i = 0 then 0 else 2 end, case when i = 0 then null else now() end,
       case when i = 0 then null else 3 end, gen_random_uuid(), 'planner'
     from generate_series(1, :meters::integer) as user_id, generate_series(0, :settled::integer) as i`,
    { today, meters, settled },
  );
  await database.raw("vacuum analyze lease");
  await database.raw("vacuum analyze charged_day");
}

async function measure(): Promise<void> {
  const engine = createRedisEngine(redis, { remember });
  engine.setGeneration(1, "bench");
  const logger = pino({ level: "warn" });
  const notifications = await openNotifications({
    url: postgres.url,
    logger,
    outages: createOutageLog(logger, "postgresql"),
    onUsers: () => undefined,
    onGeneration: () => undefined,
    onFlush: async () => void (counts.flushes += 1),
    onRecall: ignore,
  });
  const counters = createCounters({
    engine,
    flush: () => notifications.barrier(),
    async readSnapshot(of, missing, { timezone }) {
      counts.reads += 1;
      counts.most = Math.max(counts.most, (counts.underWay += 1));
      return readSnapshot(database, of, { ...missing, timezone, remember }).finally(() => (counts.underWay -= 1));
    },
    findLease: async () => undefined,
  });
  const askOf = async (userId: number) => {
    const meter = { userId, service: 1, methodGroup: 1 };
    const [answer] = await counters.execute([{ meter, rules, command: { kind: "check", points: 1 } }]);
    const meterState = answer?.meterState;
    if (meterState?.dayUsed !== settled * 3 || meterState.running !== 1) throw new Error("it is counted wrongly");
  };
  const askAll = () => {
    const limit = pLimit(callers);
    return Promise.all(Array.from({ length: meters }, (_none, index) => limit(() => askOf(index + 1))));
  };
  const watch = setInterval(() => {
    const text = "select count(*)::integer as n from pg_stat_activity where application_name = 'tollgate'";
    void database.raw(text).then(({ rows }) => (counts.connections = Math.max(counts.connections, rows[0].n)));
  }, 500);

  const lost = await timed(askAll);
  const { reads, most, flushes, connections } = { ...counts };
  const there = await timed(askAll);
  // One meter keeps its counters while all others are lost again: measures the effect on its callers.
  await server.flush();
  await askOf(1);
  const progress = { isOver: false };
  const recovering = askAll().finally(() => (progress.isOver = true));
  const waits: number[] = [];
  while (!progress.isOver) waits.push(await timed(() => askOf(1)));
  await recovering;
  clearInterval(watch);
  await notifications.close();

  console.log(`${meters} meters, ${settled + 1} leases each, ${callers} callers:`);
  console.log(`all found in Redis: ${seconds(there)}`);
  console.log(
    `all lost: ${seconds(lost)}, ${(lost / there).toFixed(1)} times as long, ${(lost / meters).toFixed(2)} ms each`,
  );
  console.log(
    `${reads} snapshots read, at most ${most} at once; ${flushes} barriers; at most ${connections} connections`,
  );
  const sorted = waits.toSorted((left, right) => left - right);
  const slowest = sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN;
  console.log(
    `a meter that is there is decided meanwhile in ${median(waits).toFixed(1)} ms (p99 ${slowest.toFixed(1)} ms)`,
  );
}

/**
 * Rebuilds the counters of one meter with 40 days of 100,000 leases each. Run by hand: npm run bench:prime. It
 * needs redis-server, some 3 GB of disk, and minutes to write the leases.
 * LEASES=100000 DAYS=40 KEPT=400 PRIMES=20: leases a day, days, days that have a partition, and the number of primes.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import pino from "pino";
import { openDatabase } from "../../src/postgres/database.ts";
import { startEmbedded } from "../../src/postgres/embedded/embedded.ts";
import { migrate } from "../../src/postgres/migrate.ts";
import { openNotifications } from "../../src/postgres/notifications.ts";
import { ensurePartitions } from "../../src/postgres/partitions.ts";
import { createCounters } from "../../src/quotas/counters/counters.ts";
import { createRedisEngine } from "../../src/quotas/counters/redis.ts";
import { windowAt } from "../../src/quotas/counters/window.ts";
import { explainSnapshot, readSnapshot } from "../../src/quotas/ledger/read.ts";
import { dayMs } from "../../src/shared/calendar.ts";
import { createOutageLog } from "../../src/shared/outage-log.ts";
import { startRedis } from "../support/redis.ts";
import { median, seconds, timed } from "./fixture.ts";

const setting = (name: string, value: number) => Number(process.env[name] ?? value);
const leases = setting("LEASES", 100_000);
const days = setting("DAYS", 40);
const kept = setting("KEPT", 400);
const primes = setting("PRIMES", 20);
/** Leases of today and yesterday that still run. */
const running = 5;

const meter = { userId: 1, service: 1, methodGroup: 1 };
const remember = { ms: dayMs, operations: 2000 };
const rules = { timezone: 0, quotas: [{ pointsPerDay: 1_000_000_000 }] };
const logger = pino({ level: "warn" });
const today = Math.floor(Date.now() / dayMs);

// Comes first: without redis-server nothing may be left running.
const server = await startRedis();
const folder = await mkdtemp(join(tmpdir(), "tollgate-bench-"));
await chmod(folder, 0o711);
const settings = { max_wal_size: "4GB", synchronous_commit: "off", max_locks_per_transaction: "256" };
const postgres = await startEmbedded({ folder, settings, onExit: () => console.error("PostgreSQL has ended") });
const open = () => openDatabase({ url: postgres.url, poolSize: 4, statementTimeoutMs: 600_000 });
let database = open();
try {
  await migrate(database);
  console.log(`${days * leases} leases written in ${seconds(await timed(fill))}, ${kept} days have a partition`);
  await snapshots();
  await wholePrimes();
  // This lease was renewed for weeks.
  await database.raw(
    `update lease set state = 0, ended_at = null, expire_at = now() + interval '1 hour'
     where day = date '1970-01-01' + ?::integer and operation_id = (
       select operation_id from lease where day = date '1970-01-01' + ?::integer limit 1)`,
    [today - days + 1, today - days + 1],
  );
  console.log("with one lease of the first day that still runs:");
  await snapshots();
} finally {
  await database.destroy();
  await postgres.stop();
  await server.kill();
  await rm(folder, { recursive: true });
}

async function fill(): Promise<void> {
  const all = Array.from({ length: kept + 3 }, (_none, index) => today + 3 - index);
  await ensurePartitions(database, "lease", new Set(all));
  for (let age = days - 1; age >= 0; age -= 1) {
    await database.raw(
      `insert into lease (day, user_id, service, method_group, operation_id, username, company_key, timezone, points,
         granted_at, expire_at, state, ended_at, settled_points, tracecode, holder)
       select date '1970-01-01' + :day::integer, 1, 1, 1, gen_random_uuid(), 'user', 'company', 0, 3, granted_at,
         case when i <= :running then now() + interval '1 hour' else granted_at + interval '1 minute' end,
         case when i <= :running then 0 else 2 end,
         case when i <= :running then null else granted_at + interval '10 seconds' end,
         case when i <= :running then null else 3 end, gen_random_uuid(), 'planner'
       from (select i, least(date '1970-01-01' + :day::integer + i * interval '1 day' / :leases, now()) as granted_at
         from generate_series(1, :leases::integer) as i) as lease`,
      { day: today - age, running: age < 2 ? running : 0, leases },
    );
  }
  await database.raw("vacuum analyze lease");
  await database.raw("vacuum analyze charged_day");
}

function report(what: string, times: readonly number[]): void {
  const [least, middle, most] = [Math.min(...times), median(times), Math.max(...times)].map((ms) => ms.toFixed(1));
  console.log(`${what}: least ${least} ms, median ${middle} ms, most ${most} ms of ${times.length}`);
}

async function snapshots(): Promise<void> {
  const { window } = windowAt(today, rules.quotas);
  const of = { nowMs: Date.now(), day: today, window, timezone: 0, remember };
  console.log((await explainSnapshot(database, meter, of)).join("\n"));
  const fresh: number[] = [];
  for (let time = 0; time < primes; time += 1) {
    await database.destroy();
    database = open();
    await database.raw("select 1");
    fresh.push(await timed(() => readSnapshot(database, meter, of)));
  }
  report("snapshot, first statement of a connection", fresh);
  const warm: number[] = [];
  for (let time = 0; time < primes; time += 1) warm.push(await timed(() => readSnapshot(database, meter, of)));
  report("snapshot, same connection", warm);
  const { leases: found, dayUsed, windowUsed } = await readSnapshot(database, meter, of);
  console.log(`it has ${found.length} leases, ${dayUsed} points of the day, ${windowUsed} of the window`);
}

/** Measures from the loss to the answer: the barrier, the ledger, Redis. */
async function wholePrimes(): Promise<void> {
  const redis = new Redis(server.url);
  const engine = createRedisEngine(redis, { remember });
  engine.setGeneration(1, "bench");
  const ignore = async () => undefined;
  const notifications = await openNotifications({
    url: postgres.url,
    logger,
    outages: createOutageLog(logger, "postgresql"),
    onUsers: () => undefined,
    onGeneration: () => undefined,
    onFlush: ignore,
    onRecall: ignore,
  });
  const counters = createCounters({
    engine,
    flush: () => notifications.barrier(),
    readSnapshot: (of, missing, { timezone }) => readSnapshot(database, of, { ...missing, timezone, remember }),
    findLease: async () => undefined,
  });
  const ask = () => counters.execute([{ meter, rules, command: { kind: "usage" } }]);
  const lost: number[] = [];
  const there: number[] = [];
  for (let time = 0; time < primes; time += 1) {
    await server.flush();
    lost.push(await timed(ask));
    there.push(await timed(ask));
  }
  report("a decision that finds its meter lost", lost);
  report("a decision that finds it", there);
  redis.disconnect();
  await notifications.close();
}

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Closers, closeAll } from "../../src/app/closers.ts";
import { openDatabase } from "../../src/postgres/database.ts";
import { addressOf, startProxy } from "../support/proxy.ts";
import { type QuotaLoad, startQuotaLoad } from "../support/quota-load.ts";
import { noOwnRedis, startRedis, startRedisCluster, type TestRedis, type TestRedisCluster } from "../support/redis.ts";
import { startStandby } from "../support/standby.ts";

/** For a long run by hand: LOAD="200000 64 50 20" npx vitest run test/faults/quota.test.ts. */
const [operations = 0, callers = 0, users = 0, losses = 0] = (process.env["LOAD"] ?? "3000 32 10 6")
  .split(" ")
  .map(Number);
const timeout = 60_000 + operations * 10;

/** Injects a loss repeatedly, at even intervals over the run. */
async function loseDuring(load: QuotaLoad, times: number, lose: () => Promise<void>): Promise<number> {
  const running = load.run();
  for (let loss = 1; loss <= times; loss += 1) {
    const due = (operations * loss) / (times + 1);
    await expect.poll(() => load.done(), { timeout, interval: 5 }).toBeGreaterThanOrEqual(due);
    await lose();
  }
  return running;
}

/** Returns the exceeded limits, after ledger, usage and audit log agree. */
async function passed({ limits, expectUsageAgrees }: QuotaLoad, maxRunning: number): Promise<string[]> {
  const { maxPoints, granted, degraded } = await expectUsageAgrees();
  // A run in which every request is refused would exceed no limit either.
  expect(granted).toBeGreaterThan(operations / 10);
  expect(degraded).toBe(0);
  return [
    ...(maxRunning > limits.max_concurrent_execution ? ["max_concurrent_execution"] : []),
    ...(maxPoints > limits.points_per_day ? ["points_per_day"] : []),
  ];
}

describe.skipIf(noOwnRedis !== "")("two server processes on one Redis and one PostgreSQL", () => {
  let redis: TestRedis;
  let load: QuotaLoad | undefined;
  beforeEach(async () => {
    redis = await startRedis();
  });
  afterEach(async () => {
    await load?.stop();
    await redis.kill();
  });

  test("mixed calls of many callers exceed no limit, and ledger, usage and audit log agree", { timeout }, async () => {
    load = await startQuotaLoad({ operations, callers, users }, { REDIS_URL: redis.url });
    expect(await passed(load, await load.run())).toEqual([]);
  });

  test("mixed calls exceed no limit while Redis is repeatedly killed and restarted empty", { timeout }, async () => {
    load = await startQuotaLoad({ operations, callers, users }, { REDIS_URL: redis.url });
    expect(await passed(load, await loseDuring(load, losses, () => redis.restart()))).toEqual([]);
  });

  test("mixed calls exceed no limit while Redis is repeatedly flushed", { timeout }, async () => {
    load = await startQuotaLoad({ operations, callers, users }, { REDIS_URL: redis.url });
    expect(await passed(load, await loseDuring(load, losses, () => redis.flush()))).toEqual([]);
  });

  test("servers that fail open without Redis charge their grants once Redis is back", {
    timeout: timeout + 100_000,
  }, async () => {
    load = await startQuotaLoad({ operations, callers, users }, { REDIS_URL: redis.url, QUOTA_FAIL_OPEN: "true" });
    const away = async () => {
      await redis.kill();
      const until = (load as QuotaLoad).done() + operations / (losses + 1) / 2;
      await expect.poll(() => load?.done(), { timeout, interval: 5 }).toBeGreaterThanOrEqual(until);
      await redis.restart();
    };
    await loseDuring(load, losses, away);
    // Continues once both servers are connected to Redis again.
    const { degraded } = await vi.waitFor(load.expectUsageAgrees, { timeout: 100_000, interval: 100 });
    expect(degraded).toBeGreaterThan(0);
  });
});

describe.skipIf(noOwnRedis !== "")("two server processes on a Redis Cluster with replicas", () => {
  let cluster: TestRedisCluster;
  let load: QuotaLoad | undefined;
  beforeEach(async () => {
    cluster = await startRedisCluster({ replicas: 1 });
  });
  afterEach(async () => {
    await load?.stop();
    await cluster.kill();
  });

  test("a failover to a replica during the run loses nothing and exceeds no limit", { timeout }, async () => {
    load = await startQuotaLoad({ operations, callers, users }, { REDIS_URL: cluster.url });
    const most = await loseDuring(load, 1, () => cluster.killMasterOf("{3}"));
    expect(await passed(load, most)).toEqual([]);
  });

  test("slots that move between masters lose nothing, and exceed no limit", { timeout }, async () => {
    load = await startQuotaLoad({ operations, callers, users }, { REDIS_URL: cluster.url });
    let moved = 0;
    const moveAll = async () => {
      // Half of the users, so that the others keep both masters busy. Ids 1 and 2 are not of the load.
      for (let id = 3; id < 3 + users; id += 2) {
        const move = await cluster.beginSlotMove(`{${id}}`);
        while (await move.moveKey()) moved += 1;
        await move.finish();
      }
    };
    expect(await passed(load, await loseDuring(load, losses, moveAll))).toEqual([]);
    expect(moved).toBeGreaterThan(users);
  });
});

describe.skipIf(noOwnRedis !== "")("two server processes on a PostgreSQL with a synchronous standby", () => {
  const closers: Closers = [];
  afterEach(() => closeAll(closers.splice(0)));

  test("the promotion of the standby during the run loses nothing, and exceeds no limit", { timeout }, async () => {
    const redis = await startRedis();
    closers.push(() => redis.kill());
    const standby = await startStandby();
    closers.push(() => standby.stop());
    const address = addressOf(standby.url);
    const proxy = await startProxy(address);
    closers.push(() => proxy.close());
    const url = proxy.url(standby.url);
    const database = openDatabase({ url, poolSize: 4, statementTimeoutMs: 10_000 });
    const settings = { REDIS_URL: redis.url };
    const load = await startQuotaLoad({ operations, callers, users }, settings, {
      url,
      database,
      drop: () => database.destroy(),
    });
    closers.push(() => load.stop());
    const failOver = async () => {
      // The address of the database stays, as with a load balancer, and leads to another server.
      Object.assign(address, await standby.promote());
      proxy.cut();
    };
    expect(await passed(load, await loseDuring(load, 1, failOver))).toEqual([]);
  });
});

import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Lease_State, QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { type Clock, type QuotaCallOptions, SettlementError, withQuota } from "../../src/client/with-quota.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startProcess } from "../support/process.ts";
import { addressOf, type Proxy, startProxy } from "../support/proxy.ts";
import { startRedis, type TestRedis } from "../support/redis.ts";

/** Waits between retries return at once. Waits between renewals never end. */
const fastClock = (): Clock => {
  let nowMs = 0;
  return {
    now: () => nowMs,
    wait: async (milliseconds, signal) => {
      if (milliseconds > 10_000) return new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
      nowMs += milliseconds;
      await new Promise(setImmediate);
    },
    random: () => 1,
  };
};

let fixture: TestDatabase;
let redis: TestRedis;
let app: TestApp;
let headers: Record<string, string>;
let proxy: Proxy;
let client: Client<typeof QuotaService>;
let username: string;
beforeAll(async () => {
  fixture = await createTestDatabase();
  redis = await startRedis();
  app = await startTestApp({ DATABASE_URL: fixture.url, REDIS_URL: redis.url });
  await app.user({ username: "planner", roles: ["BOT"] });
  headers = { authorization: `Bearer ${await app.token("planner")}` };
});
afterAll(async () => {
  await app.stop();
  await redis.kill();
  await fixture.drop();
});
beforeEach(async () => {
  username = await app.user({
    username: `user_${crypto.randomUUID().replaceAll("-", "")}`,
    company_key: "administration",
  });
  await app.setLimits(username, { points_per_day: 100 });
  proxy = await startProxy(addressOf(app.url));
  client = createClient(
    QuotaService,
    createGrpcTransport({ baseUrl: proxy.url(app.url), pingIntervalMs: 500, pingTimeoutMs: 500 }),
  );
});
afterEach(() => proxy.close());

const request = () => ({
  username,
  service: Service_Name.ROUTING,
  methodGroup: Method_Group.PLAN,
  points: 5,
});
const calculate = (run: () => Promise<void>, options: QuotaCallOptions = {}) =>
  withQuota(
    client,
    request(),
    async () => {
      await run();
      return { result: "a route", points: 3 };
    },
    { headers, ...options },
  );
const leases = () => fixture.database("lease").where({ username }).select("state", "settled_points");
const usage = () => fixture.database("usage_with_pending").where({ username }).select("requests", "points");
const settledOnce = [{ requests: 1, points: 3 }];

test("a settlement whose request is cut off is sent again, and charges once", async () => {
  const lock = await fixture.database.transaction();
  const settled = calculate(async () => {
    await expect.poll(leases).toHaveLength(1);
    await lock.raw("lock table charged_day in access exclusive mode");
  });
  const isWaiting = async () =>
    (await fixture.database.raw("select 1 from pg_stat_activity where wait_event_type = 'Lock'")).rows.length;
  await expect.poll(isWaiting).toBeGreaterThan(0);
  proxy.cut();
  await lock.rollback();
  expect(await settled).toBe("a route");
  expect(await usage()).toEqual(settledOnce);
});

test("a settlement whose response is lost is sent again, and charges once", async () => {
  const settled = calculate(async () => proxy.loseAnswers());
  await expect.poll(usage, { timeout: 10_000 }).toEqual(settledOnce);
  proxy.cut();
  expect(await settled).toBe("a route");
  expect(await usage()).toEqual(settledOnce);
});

test("an acquire whose response is lost is sent again, and the calculation runs once under one lease", async () => {
  // Opens the connection first whose responses will be lost.
  await client.getQuotaUsage({ username }, { headers });
  proxy.loseAnswers();
  let runs = 0;
  const settled = calculate(async () => void (runs += 1));
  await expect.poll(leases).toHaveLength(1);
  expect(runs).toBe(0);
  proxy.cut();
  expect(await settled).toBe("a route");
  expect([runs, await leases()]).toEqual([1, [{ state: 2, settled_points: 3 }]]);
});

test("abandons a silent connection, and sends the settlement over a new one", async () => {
  const settled = calculate(async () => proxy.blackHole("established"), { attemptTimeoutMs: 1500 });
  expect(await settled).toBe("a route");
  expect(await usage()).toEqual(settledOnce);
}, 30_000);

test("a settlement charges once when the service restarts before it", async () => {
  const port = new URL(app.url).port;
  const settled = calculate(async () => {
    await app.stop();
    setTimeout(() => {
      void startTestApp({ DATABASE_URL: fixture.url, REDIS_URL: redis.url, PORT: port }).then((next) => (app = next));
    }, 300);
  });
  expect(await settled).toBe("a route");
  expect(await usage()).toEqual(settledOnce);
}, 60_000);

describe("a result that cannot be settled", () => {
  test("is attached to the error with the data to settle it later, and the lease is not released", async () => {
    const failed: unknown = await calculate(() => proxy.refuse(), { clock: fastClock() }).catch(
      (error: unknown) => error,
    );
    expect(failed).toBeInstanceOf(SettlementError);
    const { result, leaseId, points } = failed as SettlementError<string>;
    expect([result, points]).toEqual(["a route", 3]);
    await expect.poll(leases).toEqual([{ state: 0, settled_points: null }]);
    await proxy.restore();
    await client.settleLease({ leaseId, points }, { headers });
    expect(await usage()).toEqual(settledOnce);
  });

  test("is retried for a minute, unless the service has answered", async () => {
    const clock = fastClock();
    await calculate(() => proxy.refuse(), { clock }).catch(() => undefined);
    expect(clock.now()).toBeGreaterThan(50_000);
    expect(clock.now()).toBeLessThanOrEqual(60_000);

    await proxy.restore();
    const refused = fastClock();
    const error: unknown = await withQuota(
      client,
      { ...request(), operationId: crypto.randomUUID() },
      async () => {
        const { leases: held } = await client.listLeases({ username }, { headers });
        for (const { lease } of held)
          await client.settleLease({ leaseId: lease?.leaseId ?? "", points: 4 }, { headers });
        return { result: undefined, points: 3 };
      },
      { headers, clock: refused },
    ).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SettlementError);
    expect(refused.now()).toBe(0);
  });
});

test("does not run the calculation when the lease is not ACTIVE", async () => {
  let ran = false;
  const ended: Client<typeof QuotaService> = {
    ...client,
    async acquireQuota(request, callOptions) {
      const answer = await client.acquireQuota(request, callOptions);
      if (answer.lease !== undefined) answer.lease.state = Lease_State.RELEASED;
      return answer;
    },
  };
  const run = async () => {
    ran = true;
    return { result: undefined, points: 0 };
  };
  await expect(withQuota(ended, request(), run, { headers })).rejects.toThrow("must be ACTIVE");
  expect(ran).toBe(false);
});

test("a worker thread renews the lease of a calculation that blocks the event loop", async () => {
  // Runs in a separate process, so that the server is not blocked.
  const server = await startProcess({
    DATABASE_URL: fixture.url,
    REDIS_URL: redis.url,
    TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
    LOG_LEVEL: "error",
  });
  const direct = createClient(QuotaService, createGrpcTransport({ baseUrl: server.url }));
  const held = await withQuota(
    direct,
    { ...request(), ttlSeconds: 2 },
    async () => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5000);
      const { leases: still } = await direct.listLeases({ username }, { headers });
      return { result: still.length, points: 3 };
    },
    { headers, renewFromThread: { baseUrl: server.url } },
  );
  expect(held).toBe(1);
  await server.end();
}, 120_000);

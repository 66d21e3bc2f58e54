import { randomUUID } from "node:crypto";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { verifyLeases } from "../../src/quotas/ledger/verify-leases.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { addressOf, type Proxy, startProxy } from "../support/proxy.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../support/redis.ts";

const method = { service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN };
const limits = { points_per_day: 500, max_concurrent_execution: 3 };

describe.skipIf(noOwnRedis !== "")("two servers on one Redis and one PostgreSQL", () => {
  let redis: TestRedis;
  let app: TestApp;
  let secondApp: TestApp;
  /** The proxy between the second server and PostgreSQL. */
  let proxy: Proxy;
  let clients: Client<typeof QuotaService>[];
  let headers: { authorization: string };
  let companies: readonly [string, string];
  let username: string;
  beforeEach(async () => {
    redis = await startRedis();
    app = await startTestApp({ REDIS_URL: redis.url });
    proxy = await startProxy(addressOf(app.databaseUrl));
    secondApp = await startTestApp({ REDIS_URL: redis.url, DATABASE_URL: proxy.url(app.databaseUrl) });
    headers = { authorization: `Bearer ${await app.token(await app.user({ roles: ["BOT"] }))}` };
    clients = [app, secondApp].map(({ url }) => createClient(QuotaService, createGrpcTransport({ baseUrl: url })));
    companies = [await app.company(), await app.company()];
    username = await app.user({ company_key: companies[0] });
    await app.setLimits(username, limits);
  });
  afterEach(async () => {
    await secondApp.stop();
    await proxy.close();
    await app.stop();
    await redis.kill();
  });

  async function moveTo(company_key: string): Promise<void> {
    const { body } = await app.http("GET", `/admin/users/${username}`, { token: app.admin });
    const { roles, enabled, timezone } = body;
    const changed = { username, company_key, roles, enabled, timezone };
    expect((await app.http("PUT", "/admin/users", { token: app.admin, body: changed })).status).toBeLessThan(300);
  }

  async function acquireAt(place: number, points: number): Promise<string> {
    const request = { username, ...method, points, operationId: randomUUID() };
    return (await clients[place]?.acquireQuota(request, { headers }))?.lease?.leaseId ?? "";
  }

  /**
   * Resolves when a server can rebuild counters again. A rebuild needs the server's notification connection, which is
   * opened again up to two seconds after the pool's connections.
   */
  async function awaitRebuilds(place: number): Promise<void> {
    // The counters of this user are missing until a rebuild succeeds.
    const cold = await app.user();
    await app.setLimits(cold, limits);
    const isRebuilt = async () => {
      await clients[place]?.getQuotaUsage({ username: cold }, { headers });
      return true;
    };
    await expect.poll(isRebuilt, { timeout: 10_000 }).toBe(true);
  }

  const settleAt = async (place: number, leaseId: string, points: number) =>
    void (await clients[place]?.settleLease({ leaseId, points }, { headers }));

  /** Settled points by company: from the ledger, the usage and the audit log. */
  async function readBooks() {
    const of = async (table: string, points: string, where: object) => {
      const rows = await app
        .database(table)
        .where({ username, ...where })
        .groupBy("company_key")
        .orderBy("company_key")
        .select("company_key", app.database.raw("sum(??)::integer as points", [points]));
      return rows.map((row) => [row.company_key, row.points]);
    };
    return {
      leases: await of("lease", "settled_points", { state: 2 }),
      usage: await of("usage_with_pending", "points", {}),
      audit: await of("audit_action", "points", { operation: "settle_lease" }),
    };
  }

  async function readLimits(place: number) {
    const { usages } = (await clients[place]?.getQuotaUsage({ username }, { headers })) ?? {};
    const [, day, , slots] = usages?.[0]?.limits ?? [];
    return { used: day?.used, reserved: day?.reserved, running: slots?.reserved };
  }

  const notices = [
    ["hear of it at once", 2, () => Promise.resolve()],
    [
      // The cache entry lives for a minute.
      "go by a stale cache",
      1,
      () => app.database.raw("alter table user_account disable trigger user_account_changed_notify"),
    ],
  ] as const;

  test.each(notices)(
    "calls while a user is moved between companies pass no limit and have one company each: servers %s",
    async (_how, leastCompanies, begin) => {
      await begin();
      const points = 23;
      let left = limits.points_per_day;
      let running = 0;
      let most = 0;
      const progress = { isOver: false };
      const refusals = new Set<Code>();
      const caller = async (index: number) => {
        while (!progress.isOver) {
          try {
            const leaseId = await acquireAt(index % 2, points);
            most = Math.max(most, (running += 1));
            // After the grant, and on the second server.
            await readLimits(1);
            running -= 1;
            await settleAt((index + 1) % 2, leaseId, points);
            left -= points;
          } catch (error) {
            refusals.add(ConnectError.from(error).code);
            progress.isOver ||= String(error).includes("points_per_day");
          }
        }
      };
      const callers = Promise.all(Array.from({ length: 8 }, (_none, index) => caller(index)));
      let moves = 0;
      while (!progress.isOver) await moveTo(companies[(moves += 1) % 2] as string);
      await callers;

      expect([...refusals]).toEqual([Code.ResourceExhausted]);
      expect(moves).toBeGreaterThan(2);
      expect(most).toBeLessThanOrEqual(limits.max_concurrent_execution);
      expect(left).toBe(limits.points_per_day % points);
      expect(await readLimits(1)).toEqual({ used: limits.points_per_day - left, reserved: 0, running: 0 });
      const { leases, usage, audit } = await readBooks();
      expect([usage, audit]).toEqual([leases, leases]);
      expect(leases.length).toBeGreaterThanOrEqual(leastCompanies);
      const period = { from: "2000-01-01", to: "9999-12-31" };
      expect(await verifyLeases(app.database, period)).toEqual([]);
    },
    60_000,
  );

  test("charges a lease to the company of its grant when another server settles it before the grant is written", async () => {
    await acquireAt(1, 0);
    await proxy.refuse();
    const leaseId = await acquireAt(1, 30);
    await moveTo(companies[1]);
    await settleAt(0, leaseId, 20);
    const books = { leases: [[companies[0], 20]], usage: [[companies[0], 20]], audit: [[companies[0], 20]] };
    expect(await readBooks()).toEqual(books);
    await proxy.restore();
    const written = () => app.database("lease").where({ username }).count();
    await expect.poll(written, { timeout: 10_000 }).toEqual([{ count: 2 }]);
    expect(await readBooks()).toEqual(books);
  });

  test("acknowledges one of two different settlements of a lease, even when a response is lost between them", async () => {
    const leaseId = await acquireAt(1, 9);
    await expect.poll(() => app.database("lease").where({ username }).count()).toEqual([{ count: 1 }]);
    await proxy.refuse();
    const first = settleAt(1, leaseId, 5).then(
      () => "OK",
      (error: unknown) => ConnectError.from(error).message,
    );
    // The counters have the first settlement, and its server cannot write it.
    await expect.poll(async () => (await readLimits(0)).used).toBe(5);
    await redis.flush();
    await settleAt(0, leaseId, 7);
    await proxy.restore();
    expect(await first).toContain("has been settled with 7 points, not 5");
    // The contradiction has dropped the counters, so the next call rebuilds them.
    await awaitRebuilds(1);
    await expect(settleAt(1, leaseId, 5)).rejects.toThrow("has been settled with 7 points, not 5");
    await settleAt(1, leaseId, 7);
    expect((await readBooks()).leases).toEqual([[companies[0], 7]]);
    await expect.poll(() => readLimits(1)).toEqual({ used: 7, reserved: 0, running: 0 });
  });
});

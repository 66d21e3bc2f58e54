import { randomUUID } from "node:crypto";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { startTestApp, type TestApp } from "../support/app.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../support/redis.ts";

const perDay = 100;
const method = { service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN };

describe.skipIf(noOwnRedis !== "")("with QUOTA_FAIL_OPEN", () => {
  let redis: TestRedis;
  let app: TestApp;
  let client: Client<typeof QuotaService>;
  let headers: { authorization: string };
  beforeEach(async () => {
    redis = await startRedis();
    app = await startTestApp({ REDIS_URL: redis.url, QUOTA_FAIL_OPEN: "true", DATABASE_TIMEOUT_MS: "2000" });
    await app.user({ username: "planner", roles: ["BOT"] });
    headers = { authorization: `Bearer ${await app.token("planner")}` };
    client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
  });
  afterEach(async () => {
    await app.stop();
    await redis.kill();
  });

  async function user(): Promise<string> {
    const username = await app.user();
    await app.setLimits(username, { points_per_day: perDay });
    return username;
  }

  async function acquire(username: string, points: number) {
    const operationId = randomUUID();
    const { lease } = await client.acquireQuota({ username, ...method, points, operationId }, { headers });
    return { leaseId: lease?.leaseId ?? "", degraded: lease?.degradedOpen };
  }

  const codeOf = (call: Promise<unknown>) =>
    call.then(
      () => undefined,
      (error: unknown) => (error as ConnectError).code,
    );

  async function dayOf(username: string) {
    const { usages } = await client.getQuotaUsage({ username }, { headers });
    const { used, reserved } = usages[0]?.limits[1] ?? {};
    return { used, reserved };
  }

  const faults: [string, () => unknown, () => unknown][] = [
    ["is killed", () => redis.kill(), () => redis.restart()],
    ["stands still", () => redis.pause(), () => redis.resume()],
  ];

  test.each(faults)(
    "what the ledger leaves is granted while Redis %s, and charged afterwards",
    async (_what, lose, mend) => {
      const username = await user();
      const before = await acquire(username, 40);
      await lose();
      const meanwhile = await acquire(username, 30);
      expect([before.degraded, meanwhile.degraded]).toEqual([false, true]);
      expect(await codeOf(acquire(username, 31))).toBe(Code.ResourceExhausted);
      await client.renewLease({ leaseId: before.leaseId }, { headers });
      await client.settleLease({ leaseId: before.leaseId, points: 45 }, { headers });
      expect(await dayOf(username)).toEqual({ used: 45, reserved: 30 });

      await mend();
      const back = () => acquire(username, 0).then(({ degraded }) => degraded);
      await expect.poll(back, { timeout: 10_000 }).toBe(false);
      expect(await dayOf(username)).toEqual({ used: 45, reserved: 30 });
      await client.settleLease({ leaseId: meanwhile.leaseId, points: 20 }, { headers });
      expect(await dayOf(username)).toEqual({ used: 65, reserved: 0 });
      const marked = await app.database("lease").where({ username, degraded: true }).where("points", ">", 0);
      expect(marked).toMatchObject([{ points: 30, settled_points: 20 }]);
      expect(await app.database("usage_with_pending").where({ username })).toMatchObject([{ points: 65, requests: 2 }]);
    },
    20_000,
  );

  test.each(faults)(
    "two servers raise the generation once, not once each, after Redis %s",
    async (_what, lose, mend) => {
      const secondApp = await startTestApp({
        DATABASE_URL: app.databaseUrl,
        REDIS_URL: redis.url,
        QUOTA_FAIL_OPEN: "true",
        DATABASE_TIMEOUT_MS: "2000",
      });
      const clients = [app, secondApp].map(({ url }) =>
        createClient(QuotaService, createGrpcTransport({ baseUrl: url })),
      );
      const [username, operations] = [await user(), [randomUUID(), randomUUID()] as string[]];
      const acquireAt = async (place: number, points = 0, operationId: string = randomUUID()) => {
        const request = { username, ...method, points, operationId };
        return (await clients[place]?.acquireQuota(request, { headers }))?.lease?.degradedOpen;
      };
      const generation = async () => (await app.database("counter_store").first("generation")).generation;
      for (const place of [0, 1]) await acquireAt(place);
      const before = await generation();
      await lose();
      expect(await Promise.all([0, 1].map((place) => acquireAt(place, 30, operations[place])))).toEqual([true, true]);

      await mend();
      const back = () => Promise.all([0, 1].map((place) => acquireAt(place)));
      await expect.poll(back, { timeout: 10_000 }).toEqual([false, false]);
      // Both servers keep receiving requests, and neither raises the generation again.
      for (let times = 0; times < 3; times += 1) expect(await back()).toEqual([false, false]);
      expect(await generation()).toBe(before + 1);
      expect(await dayOf(username)).toEqual({ used: 0, reserved: 60 });
      await secondApp.stop();
    },
    20_000,
  );

  test("a release at one of two servers ends every grant of its operation", async () => {
    const secondApp = await startTestApp({
      DATABASE_URL: app.databaseUrl,
      REDIS_URL: redis.url,
      QUOTA_FAIL_OPEN: "true",
      DATABASE_TIMEOUT_MS: "2000",
    });
    const clients = [app, secondApp].map(({ url }) =>
      createClient(QuotaService, createGrpcTransport({ baseUrl: url })),
    );
    const [username, operationId] = [await user(), randomUUID() as string];
    const acquireAt = async (place: number, points: number, id: string = randomUUID()) =>
      (await clients[place]?.acquireQuota({ username, ...method, points, operationId: id }, { headers }))?.lease;
    await redis.kill();
    // From here on each server has its own counters, so neither knows the other's grant.
    for (const place of [0, 1]) expect((await acquireAt(place, 0))?.degradedOpen).toBe(true);
    const leases = [await acquireAt(0, 30, operationId), await acquireAt(1, 30, operationId)];
    expect(new Set(leases.map((lease) => lease?.leaseId)).size).toBe(2);
    await clients[0]?.releaseLease({ leaseId: leases[0]?.leaseId ?? "" }, { headers });

    await redis.restart();
    const back = () => Promise.all([0, 1].map(async (place) => (await acquireAt(place, 0))?.degradedOpen));
    await expect.poll(back, { timeout: 10_000 }).toEqual([false, false]);
    expect(await dayOf(username)).toEqual({ used: 0, reserved: 0 });
    expect(await app.database("lease").where({ operation_id: operationId })).toMatchObject([{ state: 1 }]);
    // The operation can be granted again, and its lease is then active.
    expect(await acquireAt(1, 20, operationId)).toBeDefined();
    expect(await dayOf(username)).toEqual({ used: 0, reserved: 20 });
    await secondApp.stop();
  }, 20_000);

  test("users with counters in Redis are served from Redis while PostgreSQL does not answer", async () => {
    const [warm, cold] = [await user(), await user()];
    await acquire(warm, 1);
    const lock = await app.database.transaction();
    await lock.raw("lock table lease in access exclusive mode");
    expect(await codeOf(acquire(cold, 1))).toBe(Code.Unavailable);
    expect(await acquire(warm, 1)).toMatchObject({ degraded: false });
    await lock.rollback();
    expect(await acquire(cold, 1)).toMatchObject({ degraded: false });
  });
});

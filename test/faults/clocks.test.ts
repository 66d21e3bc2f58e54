import { randomUUID } from "node:crypto";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LimitStanding_Name, QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { dayMs } from "../../src/shared/calendar.ts";
import { type Json, startTestApp, type TestApp } from "../support/app.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../support/redis.ts";

describe.skipIf(noOwnRedis !== "").each([3, -3])("a server whose clock is %i days ahead of another's", (days) => {
  let redis: TestRedis;
  let app: TestApp;
  let secondApp: TestApp;
  let clients: Client<typeof QuotaService>[];
  beforeEach(async () => {
    redis = await startRedis();
    app = await startTestApp({ REDIS_URL: redis.url });
    secondApp = await startTestApp({ REDIS_URL: redis.url, DATABASE_URL: app.databaseUrl });
    secondApp.advance(days * dayMs);
    const planner = await app.user({ roles: ["BOT"] });
    clients = await Promise.all(
      [app, secondApp].map(async (server) => {
        // Each server needs a token issued by its own clock.
        const authorization = `Bearer ${await server.token(planner)}`;
        const transport = createGrpcTransport({
          baseUrl: server.url,
          interceptors: [
            (next) => (request) => {
              request.header.set("authorization", authorization);
              return next(request);
            },
          ],
        });
        return createClient(QuotaService, transport);
      }),
    );
  });
  afterEach(async () => {
    await secondApp.stop();
    await app.stop();
    await redis.kill();
  });

  async function user(limits: Json, period = ""): Promise<string> {
    const username = await app.user();
    await app.setLimits(username, limits, period);
    return username;
  }

  function acquireAt(place: number, username: string, points: number) {
    const method = { service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN };
    return clients[place]?.acquireQuota({ username, ...method, points, operationId: randomUUID() });
  }

  test("counts all running leases after FLUSHALL, whichever server rebuilds the counters", async () => {
    for (const place of [0, 1]) {
      const username = await user({ max_concurrent_execution: 3, points_per_day: 30 });
      for (const at of [0, 1, place]) await acquireAt(at, username, 10);
      await redis.flush();
      await expect(acquireAt(place, username, 0)).rejects.toThrow("max_concurrent_execution");
      await expect(acquireAt(1 - place, username, 0)).rejects.toThrow("max_concurrent_execution");
      const { usages } = (await clients[place]?.getQuotaUsage({ username })) ?? {};
      const day = usages?.[0]?.limits.find(({ name }) => name === LimitStanding_Name.POINTS_PER_DAY);
      expect(day).toMatchObject({ used: 0, reserved: 30 });
    }
  });

  test("applies the quota that is valid on the day of Redis' clock", async () => {
    const [from, to] = [0, dayMs].map((ms) => new Date(Date.now() + ms).toISOString().slice(0, 10));
    const username = await user({ points_per_day: 5 }, `?from=${from}&to=${to}`);
    await expect(acquireAt(1, username, 6)).rejects.toThrow("points_per_day");
    expect((await acquireAt(1, username, 5))?.lease?.points).toBe(5);
  });
});

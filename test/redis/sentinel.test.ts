import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { startTestApp, type TestApp } from "../support/app.ts";
import { noOwnRedis, startRedisSentinel, type TestRedisSentinel } from "../support/redis.ts";

describe.skipIf(noOwnRedis !== "")("Redis behind a Sentinel", () => {
  let redis: TestRedisSentinel;
  let app: TestApp;
  beforeEach(async () => {
    redis = await startRedisSentinel();
    app = await startTestApp({ REDIS_URL: redis.url, QUOTA_DEFAULT: "unlimited" });
  });
  afterEach(async () => {
    await app.stop();
    await redis.kill();
  });

  test("after a failover to a replica that lags behind, the server follows it and loses no reservation", async () => {
    await app.user({ username: "planner", roles: ["BOT"] });
    const headers = { authorization: `Bearer ${await app.token("planner")}` };
    const client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
    const username = await app.user();
    const request = { username, service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN, points: 7 };
    const acquire = async () => {
      const { limits } = await client.acquireQuota({ ...request, operationId: randomUUID() }, { headers });
      return limits.map(({ reserved }) => reserved);
    };
    expect(await acquire()).toEqual([0, 7, 7, 1]);
    await redis.partReplica();
    expect(await acquire()).toEqual([0, 14, 14, 2]);
    await redis.killMaster();
    // The first grant after the failover already counts both earlier reservations.
    let firstGrant: number[] | undefined;
    const answered = async () => (firstGrant ??= await acquire().catch(() => undefined));
    await expect.poll(answered, { timeout: 20_000 }).toBeDefined();
    expect(firstGrant).toEqual([0, 21, 21, 3]);
  }, 40_000);
});

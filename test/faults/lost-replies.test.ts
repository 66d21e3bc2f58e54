import { randomUUID } from "node:crypto";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { startTestApp, type TestApp } from "../support/app.ts";
import { addressOf, type Proxy, startProxy } from "../support/proxy.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../support/redis.ts";

const method = { service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN };
/** The fewest ended operations that the counters can be set to remember. */
const remembered = 100;

describe.skipIf(noOwnRedis !== "")("when Redis charges a settlement and its reply is lost", () => {
  let redis: TestRedis;
  let proxy: Proxy;
  let toPostgres: Proxy;
  let app: TestApp;
  let client: Client<typeof QuotaService>;
  let headers: { authorization: string };
  let username: string;
  beforeEach(async () => {
    redis = await startRedis();
    proxy = await startProxy(addressOf(redis.url));
    const postgres = { host: "", port: 0 };
    toPostgres = await startProxy(postgres);
    app = await startTestApp(
      { REDIS_URL: proxy.url(redis.url), QUOTA_REMEMBER_OPERATIONS: String(remembered) },
      {
        through(url) {
          Object.assign(postgres, addressOf(url));
          return toPostgres.url(url);
        },
      },
    );
    await app.user({ username: "planner", roles: ["BOT"] });
    headers = { authorization: `Bearer ${await app.token("planner")}` };
    client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
    username = await app.user();
    await app.setLimits(username, { points_per_day: 10_000 });
  });
  afterEach(async () => {
    await app.stop();
    await proxy.close();
    await toPostgres.close();
    await redis.kill();
  });

  async function acquire(points: number): Promise<string> {
    const { lease } = await client.acquireQuota(
      { username, ...method, points, operationId: randomUUID(), ttlSeconds: 600 },
      { headers },
    );
    return lease?.leaseId ?? "";
  }
  const settle = (leaseId: string, points: number) => client.settleLease({ leaseId, points }, { headers });

  async function usedPoints(): Promise<number | undefined> {
    const { usages } = await client.getQuotaUsage({ username }, { headers });
    return usages[0]?.limits[1]?.used;
  }

  async function reservedPoints(): Promise<number | undefined> {
    const { usages } = await client.getQuotaUsage({ username }, { headers });
    return usages[0]?.limits[1]?.reserved;
  }

  /** Settles without a reply from Redis in time, and then mends the connection. */
  async function settleUnanswered(leaseId: string, points: number, lose = () => proxy.loseAnswers()): Promise<void> {
    lose();
    const error = await settle(leaseId, points).catch((failure: unknown) => failure);
    expect(error).toMatchObject({ code: Code.Unavailable });
    await proxy.restore();
    const isBack = () =>
      usedPoints().then(
        () => true,
        (failure: unknown) => ConnectError.from(failure).code,
      );
    await expect.poll(isBack, { timeout: 20_000 }).toBe(true);
  }

  test("the counters equal the ledger again, without a repeated call", async () => {
    const leaseId = await acquire(5);
    await settleUnanswered(leaseId, 7);
    await expect.poll(usedPoints, { timeout: 20_000 }).toBe(0);
    await settle(leaseId, 7);
    expect(await usedPoints()).toBe(7);
  });

  test("a repeated call charges once, when newer operations have taken the place of the lease too", async () => {
    const leaseId = await acquire(5);
    await settleUnanswered(leaseId, 7);
    for (let more = 0; more <= remembered; more += 1) await settle(await acquire(1), 1);
    await settle(leaseId, 7);
    await expect.poll(usedPoints, { timeout: 20_000 }).toBe(7 + remembered + 1);
  });

  test("the counters keep grants that the ledger does not have yet, while PostgreSQL is away", async () => {
    const leaseId = await acquire(5);
    await toPostgres.refuse();
    const unwritten = await acquire(11);
    // Late by more than a second, and the connection stays open: a new one would need PostgreSQL.
    await settleUnanswered(leaseId, 7, () => proxy.delay(600));
    expect(await usedPoints()).toBe(7);
    await toPostgres.restore();
    await expect.poll(usedPoints, { timeout: 30_000 }).toBe(0);
    expect(await reservedPoints()).toBe(16);
    await settle(unwritten, 11);
  });
});

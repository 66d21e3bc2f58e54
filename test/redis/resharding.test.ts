import { randomUUID } from "node:crypto";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { startTestApp, type TestApp } from "../support/app.ts";
import { noOwnRedis, startRedisCluster, type TestRedisCluster } from "../support/redis.ts";

/** A decision between two masters is tried again for this long. */
const decisionMs = 3000;

describe.skipIf(noOwnRedis !== "")("a Redis Cluster whose slot moves", () => {
  let cluster: TestRedisCluster;
  let app: TestApp;
  let acquire: (username: string, operationId?: string) => Promise<number[]>;
  beforeAll(async () => {
    cluster = await startRedisCluster();
    app = await startTestApp({ REDIS_URL: cluster.url, QUOTA_DEFAULT: "unlimited" });
    await app.user({ username: "planner", roles: ["BOT"] });
    const headers = { authorization: `Bearer ${await app.token("planner")}` };
    const client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
    acquire = async (username, operationId = randomUUID()) => {
      const request = { username, service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN, points: 7 };
      const answer = await client.acquireQuota({ ...request, operationId }, { headers });
      return answer.limits.map(({ reserved }) => reserved);
    };
  });
  afterAll(async () => {
    await app?.stop();
    await cluster?.kill();
  });

  /** Creates a user, and returns the hash tag of its counters as well. */
  async function createUser(): Promise<{ username: string; tag: string }> {
    const username = await app.user();
    const [id] = await app.database("user_account").where({ username }).pluck("id");
    return { username, tag: `{${id}}` };
  }

  test("counts every decision once before, between and after", async () => {
    const { username, tag } = await createUser();
    expect(await acquire(username)).toEqual([0, 7, 7, 1]);
    const move = await cluster.beginSlotMove(tag);
    expect(await acquire(username)).toEqual([0, 14, 14, 2]);
    while (await move.moveKey());
    // Both keys are on the new master, which does not have the slot yet.
    expect(await acquire(username)).toEqual([0, 21, 21, 3]);
    await move.finish();
    expect(await acquire(username)).toEqual([0, 28, 28, 4]);
  });

  test("while the keys of a user are apart, a decision waits, and is UNAVAILABLE with RetryInfo after a second", async () => {
    const { username, tag } = await createUser();
    expect(await acquire(username)).toEqual([0, 7, 7, 1]);
    const move = await cluster.beginSlotMove(tag);
    expect(await move.moveKey()).toBe(true);
    const started = performance.now();
    const operationId = randomUUID();
    const error = ConnectError.from(await acquire(username, operationId).catch((refusal: unknown) => refusal));
    expect(error).toMatchObject({ code: Code.Unavailable });
    expect(error.findDetails(RetryInfoSchema)).toHaveLength(1);
    expect(performance.now() - started).toBeLessThan(decisionMs);
    // The caller repeats its request. The client of Redis may have sent the first one just before it gave up.
    const waiting = acquire(username, operationId);
    await move.finish();
    expect(await waiting).toEqual([0, 14, 14, 2]);
  });

  test("a user without counters gets them when the slot has moved", async () => {
    const { username, tag } = await createUser();
    const move = await cluster.beginSlotMove(tag);
    const waiting = acquire(username);
    await move.finish();
    expect(await waiting).toEqual([0, 7, 7, 1]);
    expect(await acquire(username)).toEqual([0, 14, 14, 2]);
  });
});

import { createHmac, randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { type Received, startReceiver } from "../support/receiver.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../support/redis.ts";

const key = randomBytes(32);

describe.skipIf(noOwnRedis !== "")("alerts of two servers", () => {
  let redis: TestRedis;
  let receiver: Awaited<ReturnType<typeof startReceiver>>;
  let app: TestApp;
  let secondApp: TestApp;
  beforeAll(async () => {
    redis = await startRedis();
    receiver = await startReceiver();
    const webhook = { WEBHOOK_URL: receiver.url, WEBHOOK_SECRET: `whsec_${key.toString("base64")}` };
    app = await startTestApp({ REDIS_URL: redis.url, ...webhook });
    secondApp = await startTestApp({ REDIS_URL: redis.url, ...webhook, DATABASE_URL: app.databaseUrl });
  });
  afterAll(async () => {
    await secondApp.stop();
    await app.stop();
    await receiver.stop();
    await redis.kill();
  });

  test("each threshold of each limit is sent once, signed, however many settlements run at once", async () => {
    const username = await app.user();
    const token = await app.token(await app.user({ roles: ["BOT"] }));
    await app.setLimits(username, { points_per_day: 500, points_per_date_window: 1000 });
    const plan = async (server: TestApp) => {
      const body = { username, service: "ROUTING", method_group: "PLAN", points: 5, operation_id: randomUUID() };
      const acquired = await server.http("POST", "/quota/leases", { token, body });
      expect(acquired.status).toBe(200);
      const path = `/quota/leases/${acquired.body.lease.lease_id}:settle`;
      expect((await server.http("POST", path, { token, body: { points: 5 } })).status).toBe(200);
    };
    await Promise.all(Array.from({ length: 100 }, (_none, index) => plan(index % 2 === 0 ? app : secondApp)));
    await expect.poll(() => app.database("outbox").where({ state: 1 }), { timeout: 30_000 }).toHaveLength(3);
    const sent = receiver.received.map(({ body }) => JSON.parse(body).data);
    expect(sent.map(({ limit, threshold }) => `${limit} ${threshold}`).toSorted()).toEqual([
      "POINTS_PER_DAY 100%",
      "POINTS_PER_DAY 80%",
      "POINTS_PER_DAY 95%",
    ]);
    expect(sent.find(({ threshold }) => threshold === "100%")).toMatchObject({ username, used_points: 500 });
    for (const received of receiver.received) expect(received.signature).toBe(signatureOf(received));
    const { body } = await app.http("GET", "/admin/audit?operation_id=quota_alert&service_name=ADMIN", {
      token: app.admin,
    });
    expect(body.statistics.filter.total).toBe(3);
  });
});

function signatureOf({ id, timestamp, body }: Received): string {
  const text = `${id}.${timestamp}.${body}`;
  return `v1,${createHmac("sha256", key).update(text).digest("base64")}`;
}

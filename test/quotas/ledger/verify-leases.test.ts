import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { verifyCounters } from "../../../src/quotas/ledger/verify-counters.ts";
import { verifyLeases } from "../../../src/quotas/ledger/verify-leases.ts";
import { startTestApp } from "../../support/app.ts";
import { noOwnRedis, startRedis } from "../../support/redis.ts";

/** Shorter than in production: one caller at a time, or sixteen on an idle server. */
const settleMs = 300;
const method = { service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN };
const all = { from: "2000-01-01", to: "9999-12-31" };

test.skipIf(noOwnRedis !== "")(
  "reports where counters, sums and the audit log differ from the settled leases",
  async () => {
    const { server, app, redis, headers, username, client, stop } = await start();
    const { id } = await app.database("user_account").where({ username }).first("id");
    await app
      .database("quota")
      .insert({ user_id: id, service: "ROUTING", method_group: "PLAN", points_per_request: 100, points_per_day: 1000 });
    const request = { username, ...method, points: 5, operationId: randomUUID() as string };
    const { lease } = await client.acquireQuota(request, { headers });
    await client.settleLease({ leaseId: lease?.leaseId ?? "", points: 4 }, { headers });
    const held = { ...request, points: 7, operationId: randomUUID() as string };
    await client.acquireQuota(held, { headers });
    // This lease expires, and no later call removes its reservation from the counters: not a difference.
    await client.acquireQuota({ ...request, operationId: randomUUID(), ttlSeconds: 1 }, { headers });
    await new Promise((resolve) => setTimeout(resolve, 1100));
    expect(await verifyLeases(app.database, all)).toEqual([]);
    expect(await verifyCounters(app.database, redis, settleMs)).toEqual({ compared: 1, differences: [] });

    await app.database("lease").where({ operation_id: held.operationId }).update({ points: 6, state: 1 });
    expect((await verifyCounters(app.database, redis, settleMs)).differences).toEqual([
      `user ${id}, service 2, method group 3: counters: reserved points of the day: 7, the ledger 0; reserved points of the window: 7, the ledger 0; live leases: 1, the ledger 0`,
    ]);
    await app.database("lease").where({ operation_id: held.operationId }).update({ points: 7, state: 0 });
    const [key = ""] = server.keys().filter((name) => name.endsWith(":state"));
    server.addDayUsed(key, -1);
    expect((await verifyCounters(app.database, redis, settleMs)).differences).toEqual([
      expect.stringMatching(`^user ${id}, .*counters: used points of the day: 3, the ledger 4$`),
    ]);
    await app.database("charged_day").update({ points: 6 });
    await app.database("audit_action").where({ operation: "settle_lease" }).update({ user_id: 0 });
    expect(await verifyLeases(app.database, all)).toEqual([
      expect.stringMatching("charged_day has 6 points, the settled leases have 4$"),
      expect.stringMatching(`no action of the settled lease of operation ${request.operationId}$`),
      expect.stringMatching("user 0: the ledger has no settled lease of the action with tracecode"),
    ]);
    await stop();
  },
);

test.skipIf(noOwnRedis !== "")(
  "a meter in use differs when its used points do, and not because settlements are on their way",
  async () => {
    const { server, app, redis, headers, username, client, stop } = await start();
    await app.setLimits(username, { points_per_day: 100_000_000 });
    const stopped = new AbortController();
    const calculate = async () => {
      const request = { username, ...method, points: 1, operationId: randomUUID() };
      const { lease } = await client.acquireQuota(request, { headers });
      await client.settleLease({ leaseId: lease?.leaseId ?? "", points: 1 }, { headers });
    };
    // The counters are rebuilt before the first answer. A rebuild would undo the change below.
    await calculate();
    const calls = Array.from({ length: 16 }, async () => {
      while (!stopped.signal.aborted) await calculate();
    });
    try {
      expect(await verifyCounters(app.database, redis, settleMs)).toEqual({ compared: 1, differences: [] });
      const [key = ""] = server.keys().filter((name) => name.endsWith(":state"));
      server.addDayUsed(key, 10_000_000);
      expect((await verifyCounters(app.database, redis, settleMs)).differences).toEqual([
        expect.stringMatching("counters: used points of the day: 100"),
      ]);
    } finally {
      stopped.abort();
      await Promise.all(calls);
      await stop();
    }
  },
);

/** Starts a server on a Redis of its own, with a user and a caller of the quota service. */
async function start() {
  const server = await startRedis();
  const app = await startTestApp({ REDIS_URL: server.url });
  const redis = new Redis(server.url);
  return {
    server,
    app,
    redis,
    headers: { authorization: `Bearer ${await app.token(await app.user({ roles: ["BOT"] }))}` },
    username: await app.user(),
    client: createClient(QuotaService, createGrpcTransport({ baseUrl: app.url })),
    async stop() {
      redis.disconnect();
      await app.stop();
      await server.kill();
    },
  };
}

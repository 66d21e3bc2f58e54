import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { verifyCounters, verifyLeases } from "../../../src/quota/ledger/verify-leases.ts";
import { startTestApp } from "../../support/app.ts";
import { noOwnRedis, startRedis } from "../../support/redis.ts";

const all = { from: "2000-01-01", to: "9999-12-31" };

test.skipIf(noOwnRedis !== "")(
  "finds where counters, sums and the audit log differ from the settled leases",
  async () => {
    const server = await startRedis();
    const app = await startTestApp({ REDIS_URL: server.url });
    const redis = new Redis(server.url);
    const headers = { authorization: `Bearer ${await app.token(await app.user({ roles: ["BOT"] }))}` };
    const username = await app.user();
    const { id } = await app.database("user_account").where({ username }).first("id");
    await app
      .database("quota")
      .insert({ user_id: id, service: "ROUTING", method_group: "PLAN", points_per_request: 100, points_per_day: 1000 });
    const client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
    const method = { service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN };
    const request = { username, ...method, points: 5, operationId: randomUUID() as string };
    const { lease } = await client.acquireQuota(request, { headers });
    await client.settleLease({ leaseId: lease?.leaseId ?? "", points: 4 }, { headers });
    expect(await verifyLeases(app.database, all)).toEqual([]);
    expect(await verifyCounters(app.database, redis)).toEqual({ compared: 1, differences: [] });

    const [key = ""] = server.keys().filter((name) => name.endsWith(":state"));
    await redis.hset(key, "du", "3");
    expect((await verifyCounters(app.database, redis)).differences).toEqual([
      expect.stringMatching(`^user ${id}, .*have used 3 points of the day and 4 of the window, the ledger 4 and 4$`),
    ]);
    await app.database("charged_day").update({ points: 6 });
    await app.database("audit_action").where({ operation: "settle_lease" }).delete();
    expect(await verifyLeases(app.database, all)).toEqual([
      expect.stringMatching("counters are made from 6 points, the settled leases have 4$"),
      expect.stringMatching(`no action of the settled lease of operation ${request.operationId}$`),
    ]);
    redis.disconnect();
    await app.stop();
    await server.kill();
  },
);

import { randomUUID } from "node:crypto";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { withQuota } from "../../src/client/with-quota.ts";
import { type Json, startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
let client: Client<typeof QuotaService>;
let headers: Record<string, string>;
beforeAll(async () => {
  app = await startTestApp();
  await app.user({ username: "planner", roles: ["BOT"] });
  headers = { authorization: `Bearer ${await app.token("planner")}` };
  client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
});
afterAll(() => app.stop());

async function createUser(limits: Json): Promise<string> {
  const username = await app.user();
  await app.setLimits(username, limits);
  return username;
}

const request = (username: string, points = 5) => ({
  username,
  service: Service_Name.ROUTING,
  methodGroup: Method_Group.PLAN,
  points,
});

const meterState = async (username: string) => {
  const { usages } = await client.getQuotaUsage({ username }, { headers });
  const [, day, , slots] = usages[0]?.limits ?? [];
  return { used: day?.used, reserved: day?.reserved, running: slots?.reserved };
};

test("withQuota runs a calculation under a lease and settles it with the points used", async () => {
  const username = await createUser({ points_per_day: 10 });
  const result = await withQuota(
    client,
    request(username),
    async () => {
      expect(await meterState(username)).toEqual({ used: 0, reserved: 5, running: 1 });
      return { result: "a route", points: 3 };
    },
    { headers },
  );
  expect(result).toBe("a route");
  expect(await meterState(username)).toEqual({ used: 3, reserved: 0, running: 0 });
});

test("a calculation that fails releases its points and slot, and its error reaches the caller", async () => {
  const username = await createUser({ points_per_day: 10 });
  const failing = withQuota(client, request(username), () => Promise.reject(new Error("no road")), { headers });
  await expect(failing).rejects.toThrow("no road");
  expect(await meterState(username)).toEqual({ used: 0, reserved: 0, running: 0 });
});

test("withQuota renews the lease while the calculation runs", async () => {
  const username = await createUser({});
  const expiry = async () => (await client.listLeases({ username }, { headers })).leases[0]?.lease?.expireTime?.nanos;
  await withQuota(
    client,
    { ...request(username), ttlSeconds: 1 },
    async () => {
      const first = await expiry();
      await expect.poll(expiry, { timeout: 3000 }).not.toBe(first);
      return { result: undefined, points: 0 };
    },
    { headers },
  );
});

test("withQuota waits for a taken slot under the same operation id", async () => {
  const username = await createUser({ max_concurrent_execution: 1 });
  const first = await client.acquireQuota({ ...request(username), operationId: randomUUID() }, { headers });
  const second = withQuota(client, request(username), async () => ({ result: "at last", points: 1 }), { headers });
  await expect.poll(() => app.log.filter(({ outcome }) => outcome === "ResourceExhausted").length).toBeGreaterThan(0);
  await client.releaseLease({ leaseId: first.lease?.leaseId ?? "" }, { headers });
  expect(await second).toBe("at last");
});

test("a refusal that outlasts the wait reaches the caller, and the calculation does not run", async () => {
  const username = await createUser({ points_per_day: 4 });
  let ran = false;
  const run = async () => {
    ran = true;
    return { result: undefined, points: 0 };
  };
  const refused = await withQuota(client, request(username), run, { headers }).catch((error: unknown) => error);
  expect(ConnectError.from(refused).code).toBe(Code.ResourceExhausted);
  expect(ran).toBe(false);
});

test("withQuota stops waiting when the caller aborts", async () => {
  const username = await createUser({ max_concurrent_execution: 1 });
  await client.acquireQuota({ ...request(username), operationId: randomUUID() }, { headers });
  const controller = new AbortController();
  const refusals = () => app.log.filter(({ outcome }) => outcome === "ResourceExhausted").length;
  const before = refusals();
  const run = async () => ({ result: undefined, points: 0 });
  const waiting = withQuota(client, request(username), run, { headers, signal: controller.signal, maxWaitMs: 60_000 });
  await expect.poll(refusals).toBeGreaterThan(before);
  controller.abort();
  await expect(waiting).rejects.toThrow();
});

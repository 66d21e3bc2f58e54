import { randomUUID } from "node:crypto";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ErrorInfoSchema, QuotaFailureSchema } from "#gen/google/rpc/error_details_pb.js";
import { Lease_State, QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { createQuotaClient } from "../../src/client/quota-client.ts";
import { withQuota } from "../../src/client/with-quota.ts";
import { type Json, startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
let unary: Client<typeof QuotaService>;
let client: Client<typeof QuotaService>;
let headers: Record<string, string>;
beforeAll(async () => {
  app = await startTestApp();
  await app.user({ username: "planner", roles: ["BOT"] });
  headers = { authorization: `Bearer ${await app.token("planner")}` };
  unary = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
  client = createQuotaClient(unary);
});
afterAll(() => app.stop());

async function createUser(limits: Json = {}): Promise<string> {
  const username = await app.user();
  await app.setLimits(username, limits);
  return username;
}

const requestFor = (username: string, points = 1) => ({
  username,
  service: Service_Name.ROUTING,
  methodGroup: Method_Group.PLAN,
  points,
  operationId: randomUUID() as string,
});

/** Returns the operations that the server served during the work, without reads. */
async function servedDuring(work: () => Promise<unknown>): Promise<string[]> {
  const start = app.log.length;
  await work();
  return app.log
    .slice(start)
    .map(({ operation }) => operation)
    .filter((operation) => /lease|acquire/.test(operation));
}

const many = <Result>(count: number, work: (index: number) => Promise<Result>): Promise<Result[]> =>
  Promise.all(Array.from({ length: count }, (_none, index) => work(index)));

test("a lone call is unary, and concurrent calls share a batch", async () => {
  const username = await createUser();
  expect(await servedDuring(() => client.acquireQuota(requestFor(username), { headers }))).toEqual(["acquire_quota"]);
  let leases: string[] = [];
  const acquire = async () => {
    const granted = await many(20, () => client.acquireQuota(requestFor(username), { headers }));
    leases = granted.map(({ lease }) => lease?.leaseId ?? "");
  };
  expect(await servedDuring(acquire)).toEqual(["batch_acquire_quota"]);
  const settle = () =>
    many(20, (index) => client.settleLease({ leaseId: leases[index] ?? "", points: 1 }, { headers }));
  expect(await servedDuring(settle)).toEqual(["batch_settle_leases"]);
  expect(await app.database("usage_with_pending").where({ username }).select("points")).toEqual([{ points: 20 }]);
});

test("every calculation of a batch has a tracecode of its own", async () => {
  const username = await createUser();
  await many(5, () => client.acquireQuota(requestFor(username), { headers }));
  const tracecodes = async () =>
    (await app.database("lease").where({ username }).select("tracecode")).map(({ tracecode }) => tracecode);
  await expect.poll(tracecodes).toHaveLength(5);
  expect(new Set(await tracecodes()).size).toBe(5);
});

test("each caller gets the error of its own request, equal to that of a unary call", async () => {
  const username = await createUser({ points_per_day: 10, max_concurrent_execution: 1 });
  const requests = [
    requestFor(username, 5),
    requestFor(username, 6),
    requestFor("nobody_of_this_name"),
    { ...requestFor(username), operationId: "no uuid" },
  ];
  const outcome = (call: Promise<unknown>) =>
    call.then(
      () => "granted",
      (thrown: unknown) => {
        const error = ConnectError.from(thrown);
        const [info] = error.findDetails(ErrorInfoSchema);
        const [failure] = error.findDetails(QuotaFailureSchema);
        return [error.code, error.rawMessage, info?.reason, info?.metadata, failure?.violations.length];
      },
    );
  const together = await Promise.all(requests.map((request) => outcome(client.acquireQuota(request, { headers }))));
  const alone = [];
  for (const request of requests) alone.push(await outcome(unary.acquireQuota(request, { headers })));
  expect(together).toEqual(alone);
  expect(together.map((result) => (result === "granted" ? result : result[0]))).toEqual([
    "granted",
    Code.ResourceExhausted,
    Code.NotFound,
    Code.InvalidArgument,
  ]);
});

test("each caller keeps its deadline and its signal, and the others of its batch get their answers", async () => {
  const username = await createUser();
  const granted = await many(4, () => client.acquireQuota(requestFor(username), { headers }));
  const settle = (index: number, options: object) =>
    client.settleLease({ leaseId: granted[index]?.lease?.leaseId ?? "", points: 1 }, { headers, ...options }).then(
      ({ lease }) => Lease_State[lease?.state ?? 0],
      (error: unknown) => Code[ConnectError.from(error).code],
    );
  const controller = new AbortController();
  const lock = await app.database.transaction();
  await lock.raw("lock table charged_day in access exclusive mode");
  const [short, aborted, ...others] = [
    settle(0, { timeoutMs: 200 }),
    settle(1, { signal: controller.signal }),
    settle(2, {}),
    settle(3, { timeoutMs: 60_000 }),
  ];
  expect(await short).toBe("DeadlineExceeded");
  controller.abort();
  expect(await aborted).toBe("Canceled");
  await lock.rollback();
  expect(await Promise.all(others)).toEqual(["SETTLED", "SETTLED"]);
});

test("calls with different headers share no batch", async () => {
  const username = await createUser();
  const stranger = { authorization: `Bearer ${await app.token(await app.user())}` };
  const outcomes = await many(6, (index) =>
    client.acquireQuota(requestFor(username), { headers: index % 2 === 0 ? headers : stranger }).then(
      () => "granted",
      (error: unknown) => Code[ConnectError.from(error).code],
    ),
  );
  expect(outcomes).toEqual([
    "granted",
    "PermissionDenied",
    "granted",
    "PermissionDenied",
    "granted",
    "PermissionDenied",
  ]);
});

test("a call waits for the one in flight during the window only", async () => {
  const username = await createUser();
  let sent = 0;
  const stalled = createQuotaClient({
    ...unary,
    acquireQuota: (request, options) => {
      sent += 1;
      return sent === 1 ? new Promise(() => undefined) : unary.acquireQuota(request, options);
    },
  });
  void stalled.acquireQuota(requestFor(username), { headers });
  await expect.poll(() => sent).toBe(1);
  await stalled.acquireQuota(requestFor(username), { headers });
  expect(sent).toBe(2);
});

test.each([Code.Unimplemented, Code.InvalidArgument, Code.ResourceExhausted])(
  "requests leave alone when the server refuses their batch with code %i",
  async (code) => {
    const username = await createUser();
    const refuse = () => Promise.reject(new ConnectError("not here", code));
    const old = createQuotaClient({ ...unary, batchAcquireQuota: refuse, batchSettleLeases: refuse });
    const granted = await many(3, () => old.acquireQuota(requestFor(username), { headers }));
    const settled = await many(3, (index) =>
      old.settleLease({ leaseId: granted[index]?.lease?.leaseId ?? "", points: 1 }, { headers }),
    );
    expect(settled.map(({ lease }) => lease?.state)).toEqual(granted.map(() => Lease_State.SETTLED));
  },
);

test("withQuota retries and renews through the client, and charges each operation once, without warnings", async () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => void warnings.push(warning);
  process.on("warning", onWarning);
  const username = await createUser({ max_concurrent_execution: 4, points_per_day: 1000 });
  const served = await servedDuring(() =>
    many(16, () =>
      withQuota(client, requestFor(username), async () => ({ result: "a route", points: 2 }), {
        headers,
        maxWaitMs: 60_000,
      }),
    ),
  );
  expect(served).toContain("batch_acquire_quota");
  expect(served).toContain("batch_settle_leases");
  expect(await app.database("usage_with_pending").where({ username }).select("requests", "points")).toEqual([
    { requests: 16, points: 32 },
  ]);
  process.off("warning", onWarning);
  expect(warnings).toEqual([]);
});

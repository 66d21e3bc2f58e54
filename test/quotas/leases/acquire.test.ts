import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import pino from "pino";
import { describe, expect, test, vi } from "vitest";
import { RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { AcquireQuotaRequestSchema, QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { createRollUp } from "../../../src/audit/roll-up.ts";
import { createActionWriter } from "../../../src/audit/writer.ts";
import type { Counters } from "../../../src/quotas/counters/counters.ts";
import { createMemoryEngine } from "../../../src/quotas/counters/memory.ts";
import { acquireLeases } from "../../../src/quotas/leases/acquire.ts";
import { createLedger } from "../../../src/quotas/ledger/ledger.ts";
import { unavailable } from "../../../src/shared/errors.ts";
import { createUsageWriter } from "../../../src/usage/writer.ts";
import { startTestApp } from "../../support/app.ts";
import { createTestDatabase } from "../../support/database.ts";
import { noOwnRedis, startRedis } from "../../support/redis.ts";
import { emptySnapshot, remember } from "../counters/conformance.ts";

const method = { service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN };
const requestFor = (username: string) => ({ username, ...method, points: 1, operationId: randomUUID() as string });

test("a commit that fails after the counters fail causes no unhandled rejection", async () => {
  const { database, drop } = await createTestDatabase();
  const logger = pino({ level: "silent" });
  const actions = createActionWriter(database, createRollUp({ database, logger }));
  const usage = createUsageWriter(database);
  const onContradiction = () => undefined;
  const ledger = createLedger({ database, logger, actions, usage, onContradiction, commitTimeoutMs: 50 });
  const subject = {
    userId: 1,
    username: "user",
    companyKey: "company",
    enabled: true,
    timezone: 0,
    quotas: new Map([["2/3", [{}]]]),
  };
  const engine = createMemoryEngine({ now: Date.now, remember });
  /** Grants the first request, then fails. */
  const counters: Counters = {
    async execute([first], onAnswer) {
      if (first === undefined) throw new Error("the batch is empty");
      const [missing] = await engine.run([first]);
      if (missing?.kind === "missing")
        await engine.prime(
          first.meter,
          missing.token,
          emptySnapshot(missing, first.rules, { dayUsed: 0, windowUsed: 0 }),
        );
      const [answer] = await engine.run([first]);
      onAnswer?.(answer as Parameters<NonNullable<typeof onAnswer>>[0], 0, performance.now());
      throw unavailable("COUNTERS_UNAVAILABLE", "the counters do not answer now", 1000);
    },
    forget: engine.forget,
  };
  let committed: Promise<unknown> | undefined;
  const options = {
    subjects: {
      peek: () => subject,
      byName: async () => subject,
      byId: async () => subject,
      invalidate: () => undefined,
      cacheUses: { hits: 0, misses: 0 },
    },
    counters,
    ledger: {
      ...ledger,
      commit: (entry: Parameters<typeof ledger.commit>[0]) => {
        committed = ledger.commit(entry);
        // Returns a separate promise: the assertion below must not count as its handler.
        return committed.then(() => undefined);
      },
    },
    byDefault: [],
    durable: true,
    presence: () => ({ isHeld: () => true, confirm: async () => true }),
    jitter: () => 0,
  };
  const unhandled = vi.fn<() => void>();
  process.on("unhandledRejection", unhandled);
  const lock = await database.transaction();
  await lock.raw("lock table lease in access exclusive mode");

  const requests = [
    create(AcquireQuotaRequestSchema, requestFor("user")),
    create(AcquireQuotaRequestSchema, requestFor("user")),
  ];
  const caller = { username: "planner", tracecode: randomUUID() };
  const decisions = await acquireLeases(options, requests, caller);
  expect(decisions.map((decision) => ("error" in decision ? String(decision.error) : "decided"))).toEqual([
    expect.stringContaining("the ledger is behind"),
    expect.stringContaining("the counters do not answer now"),
  ]);
  await expect(committed).rejects.toThrow("the ledger is behind");
  await new Promise(setImmediate);
  process.off("unhandledRejection", unhandled);
  expect(unhandled).not.toHaveBeenCalled();

  await lock.rollback();
  await ledger.flush();
  await drop();
});

test("with LEDGER_ACK=commit an acquire or renewal whose commit is late fails with UNAVAILABLE", async () => {
  const app = await startTestApp({ LEDGER_ACK: "commit", DATABASE_TIMEOUT_MS: "20000" });
  const headers = { authorization: `Bearer ${await app.token(await app.user({ roles: ["BOT"] }))}` };
  const username = await app.user();
  const { id } = await app.database("user_account").where({ username }).first("id");
  const limits = { points_per_request: 100, points_per_day: 1000, max_concurrent_execution: 1 };
  const quota = { service: "ROUTING", method_group: "PLAN", ...limits };
  await app.database("quota").insert({ user_id: id, ...quota });
  const client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
  const ended = await client.acquireQuota(requestFor(username), { headers });
  await client.releaseLease({ leaseId: ended.lease?.leaseId ?? "" }, { headers });
  /** Returns the code of a call whose lease is written late. */
  const codeOfLate = async (call: () => Promise<unknown>) => {
    const lock = await app.database.transaction();
    await lock.raw("lock table lease in exclusive mode");
    const late = call().then(
      () => "OK",
      (error: unknown) => ConnectError.from(error).code,
    );
    // A barrier times out after two seconds, a commit after five.
    await new Promise((resolve) => setTimeout(resolve, 2500));
    await lock.rollback();
    return late;
  };
  const request = requestFor(username);
  expect(await codeOfLate(() => client.acquireQuota(request, { headers }))).toBe(Code.Unavailable);
  // The lease stays granted: another server may have answered a retry with it meanwhile.
  const row = app.database("lease").where({ operation_id: request.operationId }).select("state");
  expect(await row).toEqual([{ state: 0 }]);
  const again = await client.acquireQuota(request, { headers });
  expect(again.lease?.operationId).toBe(request.operationId);
  const renew = () => client.renewLease({ leaseId: again.lease?.leaseId ?? "" }, { headers });
  expect(await codeOfLate(renew)).toBe(Code.Unavailable);
  expect((await renew()).lease?.operationId).toBe(request.operationId);
  await app.stop();
});

describe.skipIf(noOwnRedis !== "")("while Redis is down", () => {
  test("an open stream of acquires fails with UNAVAILABLE and RetryInfo", async () => {
    const redis = await startRedis();
    const app = await startTestApp({ REDIS_URL: redis.url });
    const headers = { authorization: `Bearer ${await app.token(await app.user({ roles: ["BOT"] }))}` };
    const username = await app.user();
    const { id } = await app.database("user_account").where({ username }).first("id");
    await app
      .database("quota")
      .insert({ user_id: id, service: "ROUTING", method_group: "PLAN", points_per_request: 100, points_per_day: 1000 });
    const client = createClient(QuotaService, createGrpcTransport({ baseUrl: app.url }));
    let leave: () => void = () => undefined;
    const open = new Promise<void>((resolve) => (leave = resolve));
    let sendNext: () => void = () => undefined;
    const next = new Promise<void>((resolve) => (sendNext = resolve));
    async function* requests() {
      yield requestFor(username);
      await next;
      yield requestFor(username);
      await open;
    }
    const decisions = client.acquireQuotas(requests(), { headers })[Symbol.asyncIterator]();
    expect((await decisions.next()).value.decision.case).toBe("granted");
    await redis.kill();
    sendNext();
    const error = ConnectError.from(
      await decisions.next().then(
        () => "no failure",
        (thrown: unknown) => thrown,
      ),
    );
    expect([error.code, error.findDetails(RetryInfoSchema).length]).toEqual([Code.Unavailable, 1]);
    leave();
    await app.stop();
  });
});

import { randomUUID } from "node:crypto";
import { create, fromBinary, toJson } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "#gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";
import {
  AcquireQuotaResponseSchema,
  type QuotaDecision,
  QuotaService,
  type Refusal,
  SettleLeaseResponseSchema,
  type SettlementResult,
} from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name, TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import { type Json, startTestApp, type TestApp } from "../../support/app.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";

describe.skipIf(noOwnRedis !== "")(`batches ${noOwnRedis}`, () => {
  let redis: TestRedis;
  let app: TestApp;
  let client: Client<typeof QuotaService>;
  beforeAll(async () => {
    redis = await startRedis();
    app = await startTestApp({ REDIS_URL: redis.url });
    await app.user({ username: "planner", roles: ["BOT"] });
    const token = await app.token("planner");
    const authorize = { authorization: `Bearer ${token}` };
    client = createClient(
      QuotaService,
      createGrpcTransport({
        baseUrl: app.url,
        interceptors: [
          (next) => (request) => {
            for (const [name, value] of Object.entries(authorize)) request.header.set(name, value);
            return next(request);
          },
        ],
      }),
    );
  });
  afterAll(async () => {
    await app.stop();
    await redis.kill();
  });

  /** Quotas that every kind of refusal can reach. The timezone keeps midnight away. */
  const timezone = 12 - new Date().getUTCHours();
  async function user(fields: Json = {}): Promise<string> {
    const username = await app.user({ timezone, ...fields });
    await app.setLimits(username, { points_per_request: 50, points_per_day: 90, max_concurrent_execution: 3 });
    return username;
  }

  const requestFor = (username: string, points: number) => ({
    username,
    service: Service_Name.ROUTING,
    methodGroup: Method_Group.PLAN,
    points,
    operationId: randomUUID() as string,
  });

  test("each decision and each settlement of a batch equals the answer of the unary call", async () => {
    const disabled = await user({ enabled: false });
    const noUser = "nobody_of_this_name";
    await fc.assert(
      fc.asyncProperty(fc.array(acquisition, { minLength: 1, maxLength: 12 }), settlements, async (asked, ended) => {
        const twins = [await user(), await user()] as const;
        const operations = asked.map(() => randomUUID() as string);
        const [unaryRequests, batchRequests] = twins.map((own) =>
          asked.map(({ who, points, operation, ttlSeconds, methodGroup }, index) => ({
            username: { own, disabled, noUser, invalid: "a b" }[who],
            service: Service_Name.ROUTING,
            methodGroup,
            points,
            operationId: operation === -1 ? "no uuid" : (operations[Math.min(operation, index)] as string),
            ...(ttlSeconds !== undefined && { ttlSeconds }),
          })),
        ) as [Asked[], Asked[]];
        const unary: Outcome[] = [];
        for (const request of unaryRequests)
          unary.push(
            await client
              .acquireQuota(request)
              .then(
                (answer) => ({ lease: answer.lease?.leaseId ?? "", view: toJson(AcquireQuotaResponseSchema, answer) }),
                errorOutcome,
              ),
          );
        const { decisions } = await client.batchAcquireQuota({ requests: batchRequests });
        const batch = decisions.map(decisionOutcome);
        expect(batch.map((outcome) => comparable(outcome, twins[1]))).toEqual(
          unary.map((outcome) => comparable(outcome, twins[0])),
        );

        const [unarySettlements, batchSettlements] = ([unary, batch] as const).map((outcomes): Ended[] => {
          const leases = outcomes.flatMap(({ lease }) => (lease === undefined ? [] : [lease]));
          return ended.map(({ which, points, outcome, operation }) => ({
            leaseId:
              { invalid: "nonsense", missing: missingLease, empty: "" }[which as string] ??
              leases[which as number] ??
              "x",
            ...(points !== undefined && { points }),
            outcome,
            ...(operation !== undefined && { operation }),
          }));
        }) as [Ended[], Ended[]];
        const settledAlone: Outcome[] = [];
        for (const request of unarySettlements)
          settledAlone.push(
            await client
              .settleLease(request)
              .then((answer) => ({ view: toJson(SettleLeaseResponseSchema, answer) }), errorOutcome),
          );
        const { results } = await client.batchSettleLeases({ requests: batchSettlements });
        expect(results.map((result) => comparable(resultOutcome(result), twins[1]))).toEqual(
          settledAlone.map((outcome) => comparable(outcome, twins[0])),
        );
        const booked = await Promise.all(
          twins.map((username) => app.database("usage_with_pending").where({ username }).select("requests", "points")),
        );
        expect(booked[1]).toEqual(booked[0]);
        const states = await Promise.all(twins.map((username) => client.getQuotaUsage({ username })));
        expect(states[1]?.usages).toEqual(states[0]?.usages);
      }),
      { numRuns: 10 },
    );
  });

  test("a stream of settlements answers each in order, and an invalid one does not end it", async () => {
    const username = await user();
    const { decisions } = await client.batchAcquireQuota({
      requests: [1, 2].map((points) => requestFor(username, points)),
    });
    const [first, second] = decisions.map((decision) => decisionOutcome(decision).lease ?? "");
    async function* send() {
      yield { request: { leaseId: first ?? "", points: 1 } };
      yield { request: { leaseId: second ?? "" } };
      yield {};
      yield { request: { leaseId: second ?? "", points: 2 } };
    }
    const answers: string[] = [];
    for await (const { result } of client.settleLeases(send()))
      answers.push(result.case === "settled" ? `${result.value.lease?.settledPoints}` : `${result.value?.message}`);
    expect(answers).toEqual(["1", "points: must be set", expect.stringContaining("lease_id: must be"), "2"]);
  });

  test("a batch of settlements reaches Redis in one round trip", async () => {
    const username = await user();
    const probe = new Redis(redis.url);
    const reads = async () => Number(/total_reads_processed:(\d+)/.exec(await probe.info("stats"))?.[1]);
    const users = await Promise.all(Array.from({ length: 20 }, () => user()));
    const requests = users.map((name) => requestFor(name, 1));
    const granted = (await client.batchAcquireQuota({ requests })).decisions.map(
      (decision) => decisionOutcome(decision).lease ?? "",
    );
    await client.getQuotaUsage({ username });
    const before = await reads();
    const { results } = await client.batchSettleLeases({
      requests: granted.map((leaseId) => ({ leaseId, points: 1 })),
    });
    const used = (await reads()) - before;
    expect(results.map(({ result }) => result.case)).toEqual(granted.map(() => "settled"));
    // The second INFO is one. Health checks and the read of the generation may be others.
    expect(used).toBeLessThan(8);
    probe.disconnect();
  });

  test("a batch of leases that only the ledger can know leaves connections to other calls", async () => {
    const requests = Array.from({ length: 1000 }, (_none, index) => {
      const bytes = Buffer.from(missingLease, "base64url");
      bytes.writeUInt32BE(index, bytes.length - 4);
      return { leaseId: bytes.toString("base64url"), points: 1 };
    });
    const { settling } = await app.database.transaction(async (transaction) => {
      await transaction.raw("lock table lease in access exclusive mode");
      const answer = client.batchSettleLeases({ requests });
      const waiting = async () => {
        // On another connection: within a transaction, the view does not change.
        const { rows } = await app.database.raw<{ rows: { count: number }[] }>(
          `select count(*)::integer from pg_stat_activity
           where datname = current_database() and wait_event_type = 'Lock'`,
        );
        return rows[0]?.count;
      };
      await expect.poll(waiting).toBeGreaterThan(0);
      const { status } = await app.http("GET", "/admin/users/planner", { token: app.admin });
      expect(status).toBe(200);
      // In an object: the lock must end before the answer.
      return { settling: answer };
    });
    const { results } = await settling;
    expect(results).toHaveLength(requests.length);
    const reasons = new Set(results.map(({ result }) => result.case === "refused" && result.value.reason));
    expect(reasons).toEqual(new Set(["LEASE_NOT_FOUND"]));
  });

  test("a user that cannot be read now fails alone, and the failure is logged once", async () => {
    const warm = await user();
    await client.acquireQuota(requestFor(warm, 1));
    const cold = [await user(), await user()];
    const faults = () => app.log.filter(({ msg }) => msg === "item of a batch failed").length;
    const before = faults();
    await app.database.raw("alter table quota rename to quota_away");
    let restored: PromiseLike<unknown> | undefined;
    const requests = [cold[0], warm, cold[0]].map((username) => requestFor(username ?? "", 1));
    const { decisions } = await client.batchAcquireQuota({ requests }).finally(() => {
      restored = app.database.raw("alter table quota_away rename to quota");
    });
    await restored;
    const outcomes = decisions.map(({ decision }) =>
      decision.case === "refused" ? Code[decision.value.code] : decision.case,
    );
    expect(outcomes).toEqual(["Internal", "granted", "Internal"]);
    expect(
      JSON.stringify(decisions.map(({ decision }) => (decision.case === "refused" ? decision.value.message : ""))),
    ).not.toContain("quota");
    expect(faults() - before).toBe(1);
  });
});

const missingLease = "AQAAAAAAAQIDAABP4AAAAAAAAAAAAAAAAAAAAAA";

interface Asked {
  readonly username: string;
  readonly service: Service_Name;
  readonly methodGroup: Method_Group;
  readonly points: number;
  readonly operationId: string;
}

interface Ended {
  readonly leaseId: string;
  readonly points?: number;
  readonly outcome: number;
  readonly operation?: string;
}

const acquisition = fc.record({
  who: fc.oneof(
    { weight: 8, arbitrary: fc.constant("own" as const) },
    fc.constantFrom("disabled", "noUser", "invalid"),
  ),
  points: fc.oneof({ weight: 5, arbitrary: fc.integer({ min: 0, max: 40 }) }, fc.constant(51)),
  /** The operation id of an earlier item, or a new one; -1: no UUID. */
  operation: fc.oneof({ weight: 5, arbitrary: fc.constant(99) }, fc.integer({ min: -1, max: 3 })),
  ttlSeconds: fc.option(fc.constantFrom(60, 600, 0, 86_401), { nil: undefined, freq: 3 }),
  methodGroup: fc.oneof(
    { weight: 8, arbitrary: fc.constant(Method_Group.PLAN) },
    fc.constantFrom(Method_Group.MATRIX, Method_Group.NOTRACE),
  ),
});

const settlements = fc.array(
  fc.record({
    /** The place of a granted lease. */
    which: fc.oneof(
      { weight: 6, arbitrary: fc.integer({ min: 0, max: 3 }) },
      fc.constantFrom("invalid", "missing", "empty"),
    ),
    points: fc.option(fc.integer({ min: 0, max: 60 }), { nil: undefined, freq: 6 }),
    outcome: fc.constantFrom(0, 1, 2, 9),
    operation: fc.option(fc.constantFrom("run_plan", "a\u0001b"), { nil: undefined }),
  }),
  { minLength: 1, maxLength: 12 },
);

interface Outcome {
  readonly lease?: string;
  readonly view: unknown;
}

function decisionOutcome({ decision }: QuotaDecision): Outcome {
  if (decision.case === "refused") return refusalOutcome(decision.value);
  const answer = decision.value ?? create(AcquireQuotaResponseSchema);
  return { lease: answer.lease?.leaseId ?? "", view: toJson(AcquireQuotaResponseSchema, answer) };
}

function resultOutcome({ result }: SettlementResult): Outcome {
  if (result.case === "refused") return refusalOutcome(result.value);
  return { view: toJson(SettleLeaseResponseSchema, result.value ?? create(SettleLeaseResponseSchema)) };
}

/** The details of errors that must be equal. Tracedata names the RPC, and differs. */
const detailTypes = [ErrorInfoSchema, QuotaFailureSchema, BadRequestSchema, ResourceInfoSchema];

function errorOutcome(thrown: unknown): Outcome {
  const error = ConnectError.from(thrown);
  const details = detailTypes.flatMap((type) => error.findDetails(type).map((detail) => toJson(type, detail as never)));
  const isRetried = error.findDetails(RetryInfoSchema).length;
  const traced = error.findDetails(TracedataSchema).length;
  return { view: { code: error.code, message: error.rawMessage, details, isRetried, traced } };
}

/** Leaves out what two users and two moments make different. */
function comparable({ view }: Outcome, username: string): unknown {
  const leftOut = new Set(["leaseId", "grantedTime", "expireTime"]);
  const text = JSON.stringify(view, (name, value: unknown) => {
    if (leftOut.has(name)) return undefined;
    return typeof value === "string" ? value.replaceAll(username, "the user") : value;
  });
  return JSON.parse(text);
}

/** Reads the error as the gRPC client of Connect reads that of a unary call. */
function refusalOutcome({ status, code, message }: Refusal): Outcome {
  const read = fromBinary(StatusSchema, status);
  expect([read.code, read.message]).toEqual([code, message]);
  const error = new ConnectError(read.message, read.code);
  error.details.push(...read.details.map(({ typeUrl, value }) => ({ type: typeUrl.split("/").at(-1) ?? "", value })));
  return errorOutcome(error);
}

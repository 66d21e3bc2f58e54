import { randomUUID } from "node:crypto";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ErrorInfoSchema, QuotaFailureSchema, RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { type AcquireQuotaRequest, Lease_State, LimitStanding_Name, QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { type Json, startTestApp, type TestApp, type TestAppOptions } from "../../support/app.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";

interface Fixture {
  app: TestApp;
  client: Client<typeof QuotaService>;
  token: string;
}

/** Fields of an acquire that a test overrides. */
type Overrides = Partial<Pick<AcquireQuotaRequest, "username" | "service" | "methodGroup">> & {
  readonly tracecode?: string;
};

const engines = [["in this process"], ["on Redis"]] as const;

describe.each(engines)("quotas with counters %s", (name) => {
  let fixture: Fixture;
  /** Starts the server of the tests of this block, and stops it after them. */
  const useServer = (options: TestAppOptions = {}) => {
    let redis: TestRedis | undefined;
    let outer: Fixture;
    beforeAll(async () => {
      if (name === "on Redis" && noOwnRedis === "") redis = await startRedis();
      outer = fixture;
      fixture = await startFixture(redis === undefined ? {} : { REDIS_URL: redis.url }, options);
    });
    afterAll(async () => {
      await fixture.app.stop();
      await redis?.kill();
      fixture = outer;
    });
  };
  useServer();

  const app = () => fixture.app;
  const client = () => fixture.client;

  async function user(limits: Json = {}, fields: Json = {}): Promise<string> {
    const username = await app().user(fields);
    await app().setLimits(username, limits);
    return username;
  }

  const requestFor = (username: string, points: number, more: Overrides = {}) => ({
    username,
    service: Service_Name.ROUTING,
    methodGroup: Method_Group.PLAN,
    points,
    operationId: randomUUID() as string,
    ...more,
  });

  test("ignores the window limit in a period of one day", async () => {
    // A timezone where it is about noon: no midnight falls between the calls.
    const timezone = 12 - new Date().getUTCHours();
    const username = await user({}, { timezone });
    const day = (offset: number) =>
      new Date(Date.now() + timezone * 3_600_000 + offset * 86_400_000).toISOString().slice(0, 10);
    const methods = [{ method_group: "PLAN", points_per_day: 100, points_per_date_window: 10 }];
    const period = (days: number) => `/admin/quotas/${username}?from=${day(0)}&to=${day(days)}`;
    const change = (method: string, days: number, body?: Json) =>
      app().http(method, period(days), { token: app().admin, ...(body !== undefined && { body }) });

    expect((await change("PUT", 1, { services: [{ service: "ROUTING", methods }] })).status).toBe(204);
    for (const points of [8, 8]) await client().acquireQuota(requestFor(username, points));
    const { usages } = await client().getQuotaUsage({ username });
    const limitOf = (limitName: LimitStanding_Name) =>
      usages.flatMap(({ limits }) => limits).find(({ name }) => name === limitName)?.limit;
    expect(limitOf(LimitStanding_Name.POINTS_PER_DAY)).toBe(100);
    expect(limitOf(LimitStanding_Name.POINTS_PER_DATE_WINDOW)).toBeUndefined();

    expect((await change("DELETE", 1)).status).toBe(204);
    expect((await change("PUT", 2, { services: [{ service: "ROUTING", methods }] })).status).toBe(204);
    const error = await failure(client().acquireQuota(requestFor(username, 1)));
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("DATE_WINDOW_POINTS_EXCEEDED");
  });

  test("acquires, renews and settles a lease, and accounts for it", async () => {
    const username = await user({ points_per_day: 100, points_per_date_window: 1000, max_concurrent_execution: 2 });
    const granted = await client().acquireQuota(requestFor(username, 30));
    expect(granted.lease).toMatchObject({
      username,
      points: 30,
      state: Lease_State.ACTIVE,
      renewInterval: { seconds: 20n },
    });
    const meterState = (limit: LimitStanding_Name) => granted.limits.find(({ name: limitName }) => limitName === limit);
    expect(meterState(LimitStanding_Name.POINTS_PER_DAY)).toMatchObject({
      limit: 100,
      used: 0,
      reserved: 30,
      remaining: 70,
    });
    expect(meterState(LimitStanding_Name.MAX_CONCURRENT_EXECUTION)).toMatchObject({
      limit: 2,
      reserved: 1,
      remaining: 1,
    });
    expect(meterState(LimitStanding_Name.POINTS_PER_REQUEST)?.limit).toBe(1_000_000);

    const leaseId = granted.lease?.leaseId ?? "";
    const renewed = await client().renewLease({ leaseId, ttlSeconds: 600 });
    expect(Number(renewed.lease?.expireTime?.seconds)).toBeGreaterThan(Date.now() / 1000 + 590);
    const settlement = { leaseId, points: 25, pointKeys: [1n, 2n, 2n ** 64n - 1n], duration: { seconds: 2n } };
    const settled = await client().settleLease(settlement);
    expect(settled).toMatchObject({ leaseExpired: false, lease: { state: Lease_State.SETTLED, settledPoints: 25 } });
    await client().settleLease(settlement);

    const [row] = await app().database("usage_with_pending").where({ username });
    expect(row).toMatchObject({ requests: 1, points: 25, unique_points: 3 });
    const [lease] = await app().database("lease").where({ username });
    expect(lease).toMatchObject({ state: 2, points: 30, settled_points: 25, duration_ms: 2000, holder: "planner" });

    const usage = await app().http("GET", `/quota/usage/${username}`, { token: app().admin });
    expect(usage.body.usages[0]).toMatchObject({ service: "ROUTING", method_group: "PLAN" });
    expect(usage.body.usages[0].limits[1]).toMatchObject({
      name: "POINTS_PER_DAY",
      used: 25,
      reserved: 0,
      remaining: 75,
    });
  });

  test.each<[string, Json, number, string, Code, boolean]>([
    ["the points of a day", { points_per_day: 10 }, 8, "DAILY_POINTS_EXCEEDED", Code.ResourceExhausted, true],
    [
      "the points of a window",
      { points_per_date_window: 10 },
      8,
      "DATE_WINDOW_POINTS_EXCEEDED",
      Code.ResourceExhausted,
      true,
    ],
    ["the concurrency", { max_concurrent_execution: 1 }, 8, "CONCURRENCY_LIMIT_EXCEEDED", Code.ResourceExhausted, true],
    [
      "the points of a request",
      { points_per_request: 7 },
      8,
      "REQUEST_POINTS_EXCEEDED",
      Code.FailedPrecondition,
      false,
    ],
    [
      "a day limit below the requested points",
      { points_per_day: 7 },
      8,
      "DAILY_POINTS_EXCEEDED",
      Code.ResourceExhausted,
      false,
    ],
  ])(
    "a refusal for %s names the reason, and RetryInfo when waiting helps",
    async (_what, limits, points, reason, code, isWorthWaiting) => {
      const username = await user(limits);
      await client().acquireQuota(requestFor(username, 5));
      const error = await failure(client().acquireQuota(requestFor(username, points)));
      expect([error.code, error.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([code, reason]);
      const [violation] = error.findDetails(QuotaFailureSchema)[0]?.violations ?? [];
      expect(violation).toMatchObject({ subject: `user:${username}` });
      expect(error.findDetails(RetryInfoSchema).length).toBe(isWorthWaiting ? 1 : 0);
      const check = await failure(
        client().checkQuota({ ...requestFor(username, points), operationId: undefined } as never),
      );
      expect(check.code).toBe(code);
    },
  );

  test("a refusal names every violated limit, and the latest reset", async () => {
    const username = await user({ points_per_day: 10, points_per_date_window: 10, max_concurrent_execution: 1 });
    await client().acquireQuota(requestFor(username, 5));
    const error = await failure(client().acquireQuota(requestFor(username, 6)));
    expect(
      error.findDetails(QuotaFailureSchema)[0]?.violations.map(({ description }) => description.split(":")[0]),
    ).toEqual(["points_per_day", "points_per_date_window", "max_concurrent_execution"]);
    const now = new Date();
    const month = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1) / 1000;
    const delay = Number(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds);
    expect(Math.abs(delay - (month - Date.now() / 1000))).toBeLessThan(2);
  });

  test.each([-12, -5, 0, 3, 12])(
    "a refusal for the day limit at UTC%i holds the seconds until local midnight",
    async (timezone) => {
      const username = await user({ points_per_day: 5 }, { timezone });
      await client().acquireQuota(requestFor(username, 5));
      const error = await failure(client().acquireQuota(requestFor(username, 1)));
      const local = Date.now() + timezone * 3_600_000;
      const untilMidnight = 86_400 - Math.floor((local % 86_400_000) / 1000);
      expect(Math.abs(Number(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds) - untilMidnight)).toBeLessThan(
        3,
      );
    },
  );

  test("a refusal over HTTP is 429 with Retry-After and the rate limit headers", async () => {
    const username = await user({ points_per_day: 10, max_concurrent_execution: 3 });
    const body = { username, service: "ROUTING", method_group: "PLAN", points: 10 };
    const call = (more: Json) =>
      app().http("POST", "/quota/leases", {
        token: fixture.token,
        body: { ...body, operation_id: randomUUID(), ...more },
      });
    const granted = await call({});
    expect(granted).toMatchObject({
      status: 200,
      body: { lease: { state: "ACTIVE", points: 10 } },
    });
    const refused = await call({});
    expect(refused.status).toBe(429);
    expect(refused.headers.get("ratelimit-policy")).toBe('"day";q=10;w=86400, "concurrency";q=3');
    const retryAfter = Number(refused.headers.get("retry-after"));
    expect(refused.headers.get("ratelimit")).toMatch(
      new RegExp(`^"day";r=0;t=(${retryAfter}|${retryAfter - 1}), "concurrency";r=2$`),
    );
    expect(refused.body.tracedata.operation).toBe("acquire_quota");
    const { lease_id: leaseId } = granted.body.lease;
    const released = await app().http("POST", `/quota/leases/${leaseId}:release`, { token: fixture.token, body: {} });
    expect(released).toMatchObject({ status: 200, body: { lease: { state: "RELEASED" } } });
    expect((await call({})).status).toBe(200);
  });

  test.each<[string, Json, Overrides, Code, string]>([
    ["a disabled user", { enabled: false }, {}, Code.PermissionDenied, "USER_DISABLED"],
    ["a method without a quota", {}, { methodGroup: Method_Group.MATRIX }, Code.PermissionDenied, "NO_QUOTA"],
    ["a user who does not exist", {}, { username: "missing_user" }, Code.NotFound, "USER_NOT_FOUND"],
  ])("refuses %s", async (_what, fields, more, code, reason) => {
    const username = await user({}, fields);
    const error = await failure(client().acquireQuota(requestFor(username, 1, more)));
    expect([error.code, error.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([code, reason]);
  });

  test("a repeated operation gets the same lease, and is refused when its points differ", async () => {
    const username = await user({ points_per_day: 5 });
    const request = requestFor(username, 5);
    const first = await client().acquireQuota(request);
    expect((await client().acquireQuota(request)).lease?.leaseId).toBe(first.lease?.leaseId);
    expect((await failure(client().acquireQuota({ ...request, points: 4 }))).code).toBe(Code.AlreadyExists);
  });

  test("a batch and a stream decide each request separately, in order", async () => {
    const username = await user({ points_per_day: 10 });
    const requests = [6, 5, 4, 1].map((points) => requestFor(username, points));
    const { decisions } = await client().batchAcquireQuota({ requests });
    expect(decisions.map(({ decision }) => decision.case)).toEqual(["granted", "refused", "granted", "refused"]);
    const refusal = decisions[1]?.decision;
    expect(refusal?.case === "refused" && refusal.value).toMatchObject({
      code: Code.ResourceExhausted,
      reason: "DAILY_POINTS_EXCEEDED",
      violations: [LimitStanding_Name.POINTS_PER_DAY],
    });
    const streamUser = await user({ points_per_day: 10 });
    const streamed: (string | undefined)[] = [];
    async function* send() {
      for (const points of [6, 5, 4, 1]) yield requestFor(streamUser, points);
    }
    for await (const { decision } of client().acquireQuotas(send())) streamed.push(decision.case);
    expect(streamed).toEqual(["granted", "refused", "granted", "refused"]);
  });

  test("the leases of a canceled stream expire and free their slots", async () => {
    const username = await user({ max_concurrent_execution: 3 });
    const leaving = new AbortController();
    async function* send() {
      for (;;) yield { ...requestFor(username, 1), ttlSeconds: 1 };
    }
    const running = async () => {
      const { usages } = await client().getQuotaUsage({ username });
      return usages[0]?.limits.at(-1)?.reserved;
    };
    const stream = async () => {
      let granted = 0;
      for await (const { decision } of client().acquireQuotas(send(), { signal: leaving.signal })) {
        if (decision.case === "granted") granted += 1;
        if (decision.case === "refused" && granted === 3) leaving.abort();
      }
    };
    await expect(stream()).rejects.toThrow();
    await expect.poll(running, { timeout: 5000 }).toBe(0);
  });

  test("a stream of acquires ends at its deadline, and its leases keep their slots", async () => {
    const username = await user({ max_concurrent_execution: 2 });
    // Warm the caches first, so that the stream's deadline covers decisions only.
    await client().getQuotaUsage({ username });
    async function* send() {
      for (;;) {
        yield requestFor(username, 1);
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    const decided: string[] = [];
    const stream = async () => {
      for await (const { decision } of client().acquireQuotas(send(), { timeoutMs: 1000 })) {
        decided.push(decision.case ?? "");
      }
    };
    expect((await failure(stream())).code).toBe(Code.DeadlineExceeded);
    expect(decided.slice(0, 3)).toEqual(["granted", "granted", "refused"]);
    const { usages } = await client().getQuotaUsage({ username });
    expect(usages[0]?.limits.at(-1)?.reserved).toBe(2);
  });

  test("a stream stops deciding while its reader does not read", async () => {
    const username = await user({});
    let sent = 0;
    async function* send() {
      for (; sent < 50_000; sent += 1) yield requestFor(username, 1);
    }
    const decisions = client().acquireQuotas(send())[Symbol.asyncIterator]();
    await decisions.next();
    // Sending stops because the decisions are not read, not because the requests ran out.
    let before = -1;
    await expect
      .poll(
        () => {
          const isStalled = sent === before;
          before = sent;
          return isStalled;
        },
        { interval: 300, timeout: 10_000 },
      )
      .toBe(true);
    expect(sent).toBeLessThan(40_000);
    await decisions.return?.();
  }, 20_000);

  test("lists the leases with their holders, and lets an administrator force a release", async () => {
    const username = await user({ max_concurrent_execution: 1 });
    const tracecode = randomUUID();
    const { lease } = await client().acquireQuota(requestFor(username, 1, { tracecode }));
    const { body } = await app().http("GET", `/quota/leases?username=${username}`, { token: app().admin });
    expect(body.leases).toMatchObject([
      { lease: { lease_id: lease?.leaseId, state: "ACTIVE" }, tracecode, holder: "planner" },
    ]);
    const path = `/quota/leases/${lease?.leaseId}:forceRelease`;
    expect((await app().http("POST", path, { token: fixture.token, body: {} })).status).toBe(403);
    expect((await app().http("POST", path, { token: app().admin, body: {} })).status).toBe(200);
    await client().acquireQuota(requestFor(username, 1));
    expect(
      (await failure(client().renewLease({ leaseId: lease?.leaseId ?? "" }))).findDetails(ErrorInfoSchema)[0]?.reason,
    ).toBe("LEASE_LOST");
    // A lease released by force can still be settled: the calculation ran.
    expect((await client().settleLease({ leaseId: lease?.leaseId ?? "", points: 1 })).lease?.state).toBe(
      Lease_State.SETTLED,
    );
  });

  test("a forced release happens only together with its audit row, and writes one row when repeated", async () => {
    const username = await user({ max_concurrent_execution: 1 });
    const { lease } = await client().acquireQuota(requestFor(username, 1));
    const path = `/quota/leases/${lease?.leaseId}:forceRelease`;
    const force = async () => (await app().http("POST", path, { token: app().admin, body: {} })).status;
    const audited = () => app().database("audit_action").where({ resource: lease?.leaseId }).select("operation");
    await app().database.raw(`
      create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no room'; end $$;
      create trigger refuse before insert on audit_action for each row execute function refuse()`);
    try {
      expect(await force()).toBe(500);
    } finally {
      await app().database.raw("drop trigger refuse on audit_action; drop function refuse");
    }
    expect((await failure(client().acquireQuota(requestFor(username, 1)))).code).toBe(Code.ResourceExhausted);
    expect([await force(), await force()]).toEqual([200, 200]);
    expect(await audited()).toEqual([{ operation: "force_release_lease" }]);
    expect(await app().database("lease").where({ operation_id: lease?.operationId }).select("state", "holder")).toEqual(
      [{ state: 1, holder: "planner" }],
    );
    await client().acquireQuota(requestFor(username, 1));
  });

  test("an expired lease released by force cannot be renewed, and the audit log has the release", async () => {
    const username = await user({ max_concurrent_execution: 1 });
    const { lease } = await client().acquireQuota({ ...requestFor(username, 1), ttlSeconds: 1 });
    const { leaseId = "" } = lease ?? {};
    const running = async () => (await client().listLeases({ username })).leases.length;
    await expect.poll(running, { timeout: 5000 }).toBe(0);
    const path = `/quota/leases/${leaseId}:forceRelease`;
    expect((await app().http("POST", path, { token: app().admin, body: {} })).status).toBe(200);
    expect(await app().database("audit_action").where({ resource: leaseId }).select("operation")).toEqual([
      { operation: "force_release_lease" },
    ]);
    expect((await failure(client().renewLease({ leaseId }))).code).toBe(Code.FailedPrecondition);
  });

  test("a user of another company gets 404 for a user's quotas", async () => {
    const username = await user({});
    const otherUser = await app().user({ roles: ["PARTNER"] });
    const token = await app().token(otherUser);
    for (const path of [`/quota/usage/${username}`, `/quota/leases?username=${username}`]) {
      expect((await app().http("GET", path, { token })).status).toBe(404);
    }
  });

  test("a changed quota and a disabled user take effect within a second", async () => {
    const username = await user({ points_per_day: 5 });
    await client().acquireQuota(requestFor(username, 5));
    await app().setLimits(username, { points_per_day: 6 });
    await expect
      .poll(
        () =>
          client()
            .acquireQuota(requestFor(username, 1))
            .then(
              () => true,
              () => false,
            ),
        { timeout: 1000 },
      )
      .toBe(true);
    const company = (await app().http("GET", `/admin/users/${username}`, { token: app().admin })).body.company_key;
    const body = { username, company_key: company, roles: [], enabled: false };
    await app().http("PUT", "/admin/users", { token: app().admin, body });
    const reason = async () =>
      (await failure(client().checkQuota(requestFor(username, 0) as never))).findDetails(ErrorInfoSchema)[0]?.reason;
    await expect.poll(reason, { timeout: 1000 }).toBe("USER_DISABLED");
  });

  test("settles a lease of a deleted user", async () => {
    const username = await user({});
    const { lease } = await client().acquireQuota(requestFor(username, 5));
    await expect.poll(() => app().database("lease").where({ username }).first()).toBeDefined();
    await app().http("DELETE", `/admin/users/${username}`, { token: app().admin });
    const settled = await client().settleLease({ leaseId: lease?.leaseId ?? "", points: 5 });
    expect(settled.lease?.state).toBe(Lease_State.SETTLED);
    expect(await app().database("usage_with_pending").where({ username }).first()).toMatchObject({ points: 5 });
  });

  test.each<[string, string, Code]>([
    ["an invalid lease id", "nonsense", Code.InvalidArgument],
    ["a lease that does not exist", "AQAAAAAAAQIDAABP4AAAAAAAAAAAAAAAAAAAAAA", Code.NotFound],
  ])("refuses to settle %s", async (_what, leaseId, code) => {
    expect((await failure(client().settleLease({ leaseId, points: 1 }))).code).toBe(code);
  });

  describe("and a small write queue", () => {
    const ledgerLimits = { capacity: 2000, commitTimeoutMs: 500 };
    useServer({ ledgerLimits });

    test("grants continue while PostgreSQL does not write, and are written afterwards", async () => {
      const username = await user({ points_per_day: 100 });
      const { lease } = await client().acquireQuota(requestFor(username, 1));
      await expect.poll(() => app().database("lease").where({ username })).toHaveLength(1);
      const lock = await app().database.transaction();
      try {
        await lock.raw("lock table lease in exclusive mode");
        for (let times = 0; times < 20; times += 1) await client().acquireQuota(requestFor(username, 1));
        // A settlement is acknowledged only when it is durable.
        const leaseId = lease?.leaseId ?? "";
        expect((await failure(client().settleLease({ leaseId, points: 1 }))).code).toBe(Code.Unavailable);
      } finally {
        await lock.rollback();
      }
      await expect.poll(() => app().database("lease").where({ username }), { timeout: 5000 }).toHaveLength(21);
      await expect
        .poll(() => app().database("usage_with_pending").where({ username }), { timeout: 5000 })
        .toMatchObject([{ points: 1 }]);
    });

    test("refuses grants with UNAVAILABLE while the write queue is full, and grants again once it is written", async () => {
      // The batches are small: a large one could exceed the command timeout of Redis.
      const [username, size, batches] = [await user({}), 200, 15];
      await client().acquireQuota(requestFor(username, 1));
      const lock = await app().database.transaction();
      const granted = { before: 0, after: 0 };
      const acquireBatch = async () => {
        const requests = Array.from({ length: size }, () => requestFor(username, 1));
        return (await client().batchAcquireQuota({ requests })).decisions.length;
      };
      try {
        await lock.raw("lock table lease in exclusive mode");
        const refusal = async () => {
          for (let batch = 0; batch < batches; batch += 1) granted.before += await acquireBatch();
        };
        const error = await failure(refusal());
        expect(error.code).toBe(Code.Unavailable);
        expect(error.findDetails(RetryInfoSchema)).toHaveLength(1);
        expect(granted.before).toBe(ledgerLimits.capacity);
      } finally {
        await lock.rollback();
      }
      await expect.poll(() => acquireBatch().catch(() => 0), { timeout: 10_000 }).toBe(size);
      const written = () => app().database("lease").where({ username }).count("* as leases").first();
      await expect.poll(written, { timeout: 10_000 }).toEqual({ leases: ledgerLimits.capacity + 1 + size });
    }, 30_000);
  });
});

test("with LEDGER_ACK=commit a grant is in the ledger before the response", async () => {
  const { app, client } = await startFixture(
    { LEDGER_ACK: "commit", QUOTA_DEFAULT: "unlimited" },
    { ledgerLimits: { commitTimeoutMs: 1000 } },
  );
  const username = await app.user();
  const request = { username, service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN, points: 1 };
  const acquire = () => client.acquireQuota({ ...request, operationId: randomUUID() });
  for (let times = 1; times <= 20; times += 1) {
    await acquire();
    expect(await app.database("lease").where({ username })).toHaveLength(times);
  }
  const lock = await app.database.transaction();
  await lock.raw("lock table lease in exclusive mode");
  expect((await failure(acquire())).code).toBe(Code.Unavailable);
  await lock.rollback();
  await app.stop();
}, 15_000);

async function startFixture(settings: Record<string, string>, options: TestAppOptions = {}): Promise<Fixture> {
  const app = await startTestApp(settings, options);
  await app.user({ username: "planner", roles: ["BOT"] });
  const token = await app.token("planner");
  const transport = createGrpcTransport({
    baseUrl: app.url,
    interceptors: [
      (next) => (request) => {
        request.header.set("authorization", `Bearer ${token}`);
        return next(request);
      },
    ],
  });
  return { app, token, client: createClient(QuotaService, transport) };
}

async function failure(call: Promise<unknown>): Promise<ConnectError> {
  const outcome = await call.then(
    () => "no failure",
    (error: unknown) => error,
  );
  if (outcome instanceof ConnectError) return outcome;
  throw new Error(`expected a failure: ${String(outcome)}`);
}

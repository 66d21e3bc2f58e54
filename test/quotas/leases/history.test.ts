import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { AuditService } from "#gen/tollgate/v1/audit_pb.js";
import { Lease_State, LimitStanding_Name, QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { dayMs, hourMs } from "../../../src/shared/calendar.ts";
import { type Json, password, startTestApp, type TestApp } from "../../support/app.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";

const method = { service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN };

describe.skipIf(noOwnRedis !== "").each(["in this process", "in Redis"])("leases, with counters %s", (name) => {
  let redis: TestRedis | undefined;
  let app: TestApp;
  let quota: Client<typeof QuotaService>;
  let audit: Client<typeof AuditService>;
  /** The clock of the server and of the counters. */
  let nowMs = Date.now();
  const tokens = { planner: "", manager: "" };
  beforeAll(async () => {
    if (name === "in Redis") redis = await startRedis();
    const settings = { QUOTA_REMEMBER_OPERATIONS: "100", ...(redis && { REDIS_URL: redis.url }) };
    app = await startTestApp(settings, { movesRedis: true });
    await app.user({ username: "planner", roles: ["BOT"] });
    await app.user({ username: "manager", roles: ["ADMIN"] });
    await login();
    const transport = createGrpcTransport({
      baseUrl: app.url,
      interceptors: [
        (next) => (request) => {
          request.header.set("authorization", `Bearer ${tokens.planner}`);
          return next(request);
        },
      ],
    });
    quota = createClient(QuotaService, transport);
    audit = createClient(AuditService, transport);
  });
  afterAll(async () => {
    await app.stop();
    await redis?.kill();
  });

  async function login(): Promise<void> {
    tokens.planner = await app.token("planner");
    tokens.manager = await app.token("manager");
  }

  /** Moves all clocks, and logs in again: the tokens expire on the way. */
  async function advance(milliseconds: number): Promise<void> {
    nowMs += milliseconds;
    app.advance(milliseconds);
    await login();
  }

  const call = (verb: string, path: string, body?: Json) => app.http(verb, path, { token: tokens.manager, body });

  async function company(): Promise<string> {
    const key = `company_${randomUUID().slice(0, 8)}`;
    expect((await call("POST", "/admin/companies", { key })).status).toBe(201);
    return key;
  }

  const setQuota = async (username: string, methods: Json) =>
    expect(
      (await call("PUT", `/admin/quotas/${username}`, { services: [{ service: "ROUTING", methods }] })).status,
    ).toBe(204);

  async function user(limits: Json, fields: Json = {}): Promise<string> {
    const username = `user_${randomUUID().slice(0, 8)}`;
    const company_key = fields.company_key ?? (await company());
    const body = { username, password, roles: [], ...fields, company_key };
    expect((await call("POST", "/admin/users", body)).status).toBe(201);
    await setQuota(username, [{ method_group: "PLAN", ...limits }]);
    return username;
  }

  async function change(username: string, fields: Json): Promise<void> {
    const { body } = await call("GET", `/admin/users/${username}`);
    const { company_key, roles, enabled, timezone } = body;
    const changed = { username, company_key, roles, enabled, timezone, ...fields };
    expect((await call("PUT", "/admin/users", changed)).status).toBeLessThan(300);
  }

  async function acquire(username: string, points: number, operationId: string = randomUUID()): Promise<string> {
    const { lease } = await quota.acquireQuota({ username, ...method, points, operationId, ttlSeconds: 60 });
    return lease?.leaseId ?? "";
  }

  const settle = (leaseId: string, points: number) => quota.settleLease({ leaseId, points });

  async function acquireAndSettle(username: string, points: number): Promise<string> {
    const leaseId = await acquire(username, points);
    await settle(leaseId, points);
    return leaseId;
  }

  async function usedOf(username: string, limit = LimitStanding_Name.POINTS_PER_DAY) {
    const { usages } = await quota.getQuotaUsage({ username });
    return usages[0]?.limits.find((home) => home.name === limit)?.used;
  }

  async function reasonOf(call: Promise<unknown>): Promise<[string, string | undefined]> {
    const error = await call.then(
      () => new ConnectError("no failure"),
      (thrown: unknown) => ConnectError.from(thrown),
    );
    return [Code[error.code] ?? "", error.findDetails(ErrorInfoSchema)[0]?.reason];
  }

  test("a user's used points stay when the user moves to another company and back", async () => {
    const [home, guest] = [await company(), await company()];
    const username = await user({ points_per_day: 1000, max_concurrent_execution: 3 }, { company_key: home });
    await acquireAndSettle(username, 500);
    const running = await acquire(username, 50);
    await change(username, { company_key: guest });
    await acquireAndSettle(username, 400);
    await change(username, { company_key: home });
    expect(await reasonOf(acquire(username, 51))).toEqual(["ResourceExhausted", "DAILY_POINTS_EXCEEDED"]);
    await settle(running, 50);
    await acquireAndSettle(username, 50);
    expect(await usedOf(username)).toBe(1000);
    const rows = await app
      .database("usage_with_pending")
      .where({ username })
      .orderBy("points")
      .select("company_key", "points");
    expect(rows).toEqual([
      { company_key: guest, points: 400 },
      { company_key: home, points: 600 },
    ]);
  });

  test("a settlement, a renewal and a release repeated after 25 hours change nothing", async () => {
    const username = await user({ points_per_date_window: 10_000 }, { timezone: 0 });
    const day = new Date(nowMs).getUTCDate();
    // Both days must be in one month.
    if (day > 26) await advance(5 * dayMs);
    const settled = await acquireAndSettle(username, 300);
    const released = await acquire(username, 7);
    await quota.releaseLease({ leaseId: released });
    await advance(25 * hourMs);
    const window = () => usedOf(username, LimitStanding_Name.POINTS_PER_DATE_WINDOW);
    for (let times = 0; times < 2; times += 1) {
      expect((await settle(settled, 300)).lease?.state).toBe(Lease_State.SETTLED);
      expect(await reasonOf(settle(settled, 301))).toEqual(["AlreadyExists", "LEASE_SETTLED_DIFFERENTLY"]);
      expect(await reasonOf(quota.renewLease({ leaseId: settled }))).toEqual(["FailedPrecondition", "LEASE_LOST"]);
      expect((await quota.releaseLease({ leaseId: settled })).lease?.state).toBe(Lease_State.SETTLED);
      expect((await quota.releaseLease({ leaseId: released })).lease?.state).toBe(Lease_State.RELEASED);
      expect(await window()).toBe(300);
      await redis?.flush();
    }
    expect(await app.database("usage_with_pending").where({ username }).sum("points as points")).toEqual([
      { points: "300" },
    ]);
  });

  test("an expired lease is settled once, however late", async () => {
    const username = await user({ points_per_date_window: 10_000 });
    const leaseId = await acquire(username, 40);
    await advance(30 * hourMs);
    for (let times = 0; times < 2; times += 1) {
      expect((await settle(leaseId, 30)).leaseExpired).toBe(times === 0);
      await advance(25 * hourMs);
    }
    expect(await app.database("usage_with_pending").where({ username }).sum("points as points")).toEqual([
      { points: "30" },
    ]);
    expect(await app.database("charged_day").where({ user_id: await idOf(username) })).toMatchObject([{ points: 30 }]);
  });

  test("points reported without a lease do not count against the quota", async () => {
    const username = await user({ points_per_day: 1000 });
    await acquireAndSettle(username, 250);
    const action = { operation: "run_plan", ...method, username, server: "planner", points: 500 };
    const time = timestampFromMs(nowMs);
    const { recorded } = await audit.recordActions({
      actions: [{ ...action, time, tracecode: randomUUID() }],
    });
    expect(recorded).toBe(1);
    expect(await usedOf(username)).toBe(250);
    await redis?.flush();
    expect(await usedOf(username)).toBe(250);
    await app
      .database("usage_with_pending")
      .where({ username })
      .first()
      .then((row) => expect(row.points).toBe(750));
  });

  test("refuses a settled operation, and grants a released or expired one again", async () => {
    const username = await user({ max_concurrent_execution: 1 });
    const [settled, released, expired] = [randomUUID(), randomUUID(), randomUUID()];
    await settle(await acquire(username, 5, settled), 5);
    await quota.releaseLease({ leaseId: await acquire(username, 5, released) });
    await acquire(username, 5, expired);
    await advance(61_000);
    expect(await reasonOf(acquire(username, 5, settled))).toEqual(["AlreadyExists", "OPERATION_SETTLED"]);
    const again = await acquire(username, 5, released);
    expect(await reasonOf(acquire(username, 5, expired))).toEqual(["ResourceExhausted", "CONCURRENCY_LIMIT_EXCEEDED"]);
    // The ledger records that the operation runs again.
    await redis?.flush();
    expect(await reasonOf(acquire(username, 5))).toEqual(["ResourceExhausted", "CONCURRENCY_LIMIT_EXCEEDED"]);
    await settle(again, 4);
    await settle(await acquire(username, 5, expired), 4);
    expect(await usedOf(username)).toBe(13);
    const { decisions } = await quota.batchAcquireQuota({
      requests: [{ username, ...method, points: 5, operationId: settled }],
    });
    expect(decisions[0]?.decision).toMatchObject({
      value: { code: Code.AlreadyExists, reason: "OPERATION_SETTLED" },
    });
  });

  test("an operation repeated after the counters forgot it is charged once", async () => {
    const username = await user({ points_per_day: 1000 }, { timezone: 0 });
    // All calls must fall into one day.
    await advance(dayMs - (nowMs % dayMs) + 60_000);
    const operationId = randomUUID();
    const first = await acquire(username, 300, operationId);
    await settle(first, 300);
    // Other operations evict it.
    const requests = Array.from({ length: 101 }, () => ({
      username,
      ...method,
      points: 0,
      operationId: randomUUID() as string,
    }));
    const { decisions } = await quota.batchAcquireQuota({ requests });
    const leases = decisions.map(({ decision }) => (decision.case === "granted" ? decision.value.lease?.leaseId : ""));
    await Promise.all(leases.map((leaseId = "") => quota.releaseLease({ leaseId })));
    const second = await acquire(username, 300, operationId);
    // The second grant has the same row in the ledger, and another lease id.
    expect(second).not.toBe(first);
    expect(await reasonOf(settle(second, 200))).toEqual(["AlreadyExists", "LEASE_SETTLED_DIFFERENTLY"]);
    expect((await settle(second, 300)).lease?.state).toBe(Lease_State.SETTLED);
    await expect.poll(() => usedOf(username)).toBe(300);
    expect((await quota.listLeases({ username })).leases).toEqual([]);
    expect(await app.database("usage_with_pending").where({ username })).toMatchObject([{ points: 300, requests: 1 }]);
  }, 60_000);

  test("limits of 0 allow nothing, and a running lease is still settled", async () => {
    const username = await user({ points_per_day: 10 });
    const running = await acquire(username, 5);
    for (const limits of [{ points_per_request: 0 }, { points_per_day: 0 }, { points_per_date_window: 0 }]) {
      await setQuota(username, [{ method_group: "PLAN", ...limits }]);
      const [code] = await reasonOf(acquire(username, 0));
      expect(code).toMatch(/ResourceExhausted|FailedPrecondition/);
    }
    await settle(running, 1_000_000);
    expect(await app.database("usage_with_pending").where({ username })).toMatchObject([{ points: 1_000_000 }]);
  });

  test("leases of two methods that share an operation and a tracecode get one action each", async () => {
    const username = await user({});
    await setQuota(username, [{ method_group: "PLAN" }, { method_group: "MATRIX" }]);
    const both = [Method_Group.PLAN, Method_Group.MATRIX];
    for (let times = 0; times < 20; times += 1) {
      const [tracecode, operationId] = [randomUUID(), randomUUID()];
      const leases = await Promise.all(
        both.map(async (methodGroup) => {
          const request = { username, service: method.service, methodGroup, points: 1, operationId, tracecode };
          return (await quota.acquireQuota(request)).lease?.leaseId ?? "";
        }),
      );
      await Promise.all(leases.map((leaseId) => settle(leaseId, 1)));
    }
    const actions = await app.database("audit_action").where({ username, operation: "settle_lease" }).count();
    expect(actions).toEqual([{ count: 40 }]);
  });

  test("settles a lease of a user who is deleted right after the grant", async () => {
    const username = await user({});
    await settle(await acquire(username, 1), 1);
    const lock = await app.database.transaction();
    await lock.raw("lock table lease in exclusive mode");
    const leaseId = await acquire(username, 5);
    await app.database("user_account").where({ username }).delete();
    const check = () => reasonOf(quota.checkQuota({ username, ...method, points: 1 }));
    await expect.poll(check).toEqual(["NotFound", "USER_NOT_FOUND"]);
    const settling = settle(leaseId, 5);
    // The settlement waits until the grant is written.
    expect(await Promise.race([settling.catch(() => "failed"), wait(300, "waiting")])).toBe("waiting");
    await lock.rollback();
    expect((await settling).lease?.state).toBe(Lease_State.SETTLED);
    expect(await app.database("usage_with_pending").where({ username })).toMatchObject([{ points: 6 }]);
  });

  const idOf = async (username: string) => (await app.database("user_account").where({ username }).first("id")).id;

  // Counters in this process cannot be lost alone, and have no keys to inspect.
  if (name !== "in Redis") return;

  test("settles, renews and releases a grant by its id when counters and ledger have lost it", async () => {
    const username = await user({ max_concurrent_execution: 2 });
    const [settled, renewed, released] = [
      await acquire(username, 5),
      await acquire(username, 1),
      await acquire(await user({}), 1),
    ];
    const written = () => app.database("lease").whereIn("username", [username]);
    await expect.poll(written).toHaveLength(2);
    await app.database("lease").delete();
    await redis?.flush();
    for (let times = 0; times < 2; times += 1) await settle(settled, 7);
    expect((await quota.renewLease({ leaseId: renewed })).lease).toMatchObject({
      state: Lease_State.ACTIVE,
      points: 1,
    });
    expect((await quota.releaseLease({ leaseId: released })).lease?.state).toBe(Lease_State.RELEASED);
    expect(await usedOf(username)).toBe(7);
    expect(await app.database("usage_with_pending").where({ username })).toMatchObject([{ points: 7, requests: 1 }]);
    expect((await quota.listLeases({ username })).leases).toMatchObject([{ holder: "planner" }]);
  });

  test("a forged id creates no keys in Redis", async () => {
    const leaseId = await acquireAndSettle(await user({}), 1);
    const otherUserId = await idOf(await user({}));
    const bytes = Buffer.from(leaseId, "base64url");
    const keys = () => redis?.keys();
    const before = keys();
    for (let index = 0; index < 20; index += 1) {
      bytes.writeUIntBE(otherUserId, 1, 6);
      bytes.writeUInt8(index, 28);
      const forged = bytes.toString("base64url");
      expect(await reasonOf(settle(forged, 1))).toEqual(["NotFound", "LEASE_NOT_FOUND"]);
    }
    expect(keys()).toEqual(before);
  });

  test("a day counted at the user's previous offset continues after the counters are lost", async () => {
    const username = await user({ points_per_day: 100 }, { timezone: -12 });
    // 13:00 UTC: at UTC-12 the day began an hour ago.
    await advance(dayMs - (nowMs % dayMs) + 13 * hourMs);
    await acquireAndSettle(username, 50);
    await change(username, { timezone: 12 });
    await acquireAndSettle(username, 45);
    await redis?.flush();
    expect(await reasonOf(acquire(username, 6))).toEqual(["ResourceExhausted", "DAILY_POINTS_EXCEEDED"]);
    // The counters forget all leases of the day before it ends.
    await advance(22 * hourMs);
    await redis?.flush();
    expect(await reasonOf(acquire(username, 6))).toEqual(["ResourceExhausted", "DAILY_POINTS_EXCEEDED"]);
    await advance(hourMs);
    await acquire(username, 100);
  });
});

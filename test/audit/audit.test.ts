import { randomUUID } from "node:crypto";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuditService } from "#gen/tollgate/v1/audit_pb.js";
import { Outcome_Name, QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { dropFiles } from "../../src/data/store.ts";
import { verifyUsage } from "../../src/quotas/ledger/verify.ts";
import { type Json, startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
let audit: Client<typeof AuditService>;
let quotas: Client<typeof QuotaService>;
let service: { headers: { authorization: string } };
beforeAll(async () => {
  app = await startTestApp({ QUOTA_DEFAULT: "unlimited" });
  const transport = createGrpcTransport({ baseUrl: app.url });
  audit = createClient(AuditService, transport);
  quotas = createClient(QuotaService, transport);
  const username = await app.user({ username: "routing_1", roles: ["BOT"] });
  service = { headers: { authorization: `Bearer ${await app.token(username)}` } };
});
afterAll(() => app.stop());

/** An action as a service reports it. */
const action = (fields: Json = {}) => ({
  tracecode: randomUUID(),
  service: Service_Name.ROUTING,
  operation: "run_matrix",
  methodGroup: Method_Group.MATRIX,
  time: timestampFromDate(new Date()),
  points: 7,
  ...fields,
});

async function read(query: Record<string, string>, token = app.admin): Promise<Json> {
  const { status, body } = await app.http("GET", `/admin/audit?${new URLSearchParams(query).toString()}`, { token });
  if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`);
  return body;
}

const usageOf = (username: string) =>
  app.database("usage_with_pending").where({ username }).select("requests", "points", "unique_points");

describe("has_data of an action", () => {
  const upload = (tracecode: string, username: string) =>
    app.http("PUT", `/admin/data/${tracecode}?username=${username}`, { token: app.admin, body: {} });
  const hasData = async (username: string, token = app.admin): Promise<Record<string, boolean>> => {
    const { actions } = await read({ username }, token);
    return Object.fromEntries(actions.map((listed: Json) => [listed.tracedata.code, listed.has_data]));
  };

  test("is true when the upload came before or after the action, and false without an upload", async () => {
    const username = await app.user({ roles: ["USER"] });
    const [before, after, without] = [randomUUID(), randomUUID(), randomUUID()];
    await upload(before, username);
    const actions = [before, after, without].map((tracecode) => action({ username, tracecode }));
    await audit.recordActions({ actions }, service);
    expect(await hasData(username)).toEqual({ [before]: true, [after]: false, [without]: false });
    await upload(after, username);
    expect(await hasData(username)).toEqual({ [before]: true, [after]: true, [without]: false });
  });

  test("is false for data of another user with the same tracecode", async () => {
    const username = await app.user({ roles: ["USER"] });
    const tracecode = randomUUID();
    await upload(tracecode, await app.user({ roles: ["USER"] }));
    await audit.recordActions({ actions: [action({ username, tracecode })] }, service);
    expect(await hasData(username, await app.token(username))).toEqual({ [tracecode]: false });
  });

  test("is false once the data's retention has ended", async () => {
    const username = await app.user({ roles: ["USER"] });
    const tracecode = randomUUID();
    await upload(tracecode, username);
    await audit.recordActions({ actions: [action({ username, tracecode })] }, service);
    expect(await hasData(username)).toEqual({ [tracecode]: true });
    await dropFiles(app.database, Date.now() + 2 * 86_400_000);
    expect(await hasData(username)).toEqual({ [tracecode]: false });
  });
});

describe("recording", () => {
  test("records the caller, operation and resource of an administrator's change", async () => {
    const key = `changed_${Date.now()}`;
    const code = randomUUID();
    await app.http("POST", "/admin/companies", { token: app.admin, body: { key }, headers: { tracecode: code } });
    const { actions } = await read({ operation_id: "create_company", sort_direction: "DESC", limit: "1" });
    expect(actions).toEqual([
      {
        username: "admin",
        company_key: "administration",
        tracedata: {
          code,
          client: "administration_|_admin",
          server: "test_server",
          service: "ADMIN",
          operation: "create_company",
          time: expect.stringMatching(/Z$/),
        },
        method_group: "NOTRACE",
        statistics: {},
        resource: key,
        outcome: "SUCCESS",
        has_data: false,
      },
    ]);
  });

  test("records no refused change, and no secret of an accepted one", async () => {
    const code = randomUUID();
    const headers = { tracecode: code };
    const body = {
      username: "unknown_user",
      company_key: "no_such_company",
      roles: [],
      password: "very secret indeed",
    };
    await app.http("POST", "/admin/users", { token: app.admin, body, headers });
    const username = await app.user({ password: "very secret indeed" });
    const rows = await app.database("audit_action").where({ tracecode: code });
    expect(rows).toEqual([]);
    const [made] = await app.database("audit_action").where({ resource: username });
    expect(made.operation).toBe("create_user");
    expect(JSON.stringify(made)).not.toContain("secret");
  });

  test("records a repeated settlement once, with its reported names and numbers", async () => {
    const username = await app.user();
    const tracecode = randomUUID();
    const leases = await Promise.all(
      [1, 2].map(async () => {
        const request = { username, service: 2, methodGroup: 3, points: 5, operationId: randomUUID(), tracecode };
        return (await quotas.acquireQuota(request, service)).lease?.leaseId ?? "";
      }),
    );
    const settle = (leaseId: string) =>
      quotas.settleLease(
        {
          leaseId,
          points: 4,
          duration: { seconds: 3723n, nanos: 500_000_000 },
          outcome: Outcome_Name.FAILURE,
          operation: "run_plan_calculation",
          server: "planner_7",
        },
        service,
      );
    await Promise.all([...leases, ...leases].map(settle));
    const { actions, statistics } = await read({ username });
    expect(statistics.filter).toEqual({ total: 2 });
    expect(actions[0]).toMatchObject({
      username,
      tracedata: { code: tracecode, server: "planner_7", service: "ROUTING", operation: "run_plan_calculation" },
      method_group: "PLAN",
      statistics: { points_count: 4, duration: "PT1H2M3.5S" },
      outcome: "FAILURE",
    });
  });

  test("records a settlement that reports only its points", async () => {
    const username = await app.user();
    const request = { username, service: 2, methodGroup: 3, points: 5, operationId: randomUUID() };
    const { lease } = await quotas.acquireQuota(request, service);
    await quotas.settleLease({ leaseId: lease?.leaseId ?? "", points: 0 }, service);
    const { actions } = await read({ username });
    expect(actions).toMatchObject([
      { tracedata: { server: "routing_1", operation: "settle_lease" }, statistics: { points_count: 0 } },
    ]);
    expect(actions[0]).not.toHaveProperty("outcome");
  });

  test("records each action of a batch or stream once, with its usage", async () => {
    const username = await app.user({ timezone: 3 });
    const reported = [1, 2, 3].map(() => action({ username, pointKeys: [1n, 2n] }));
    expect(await audit.recordActions({ actions: reported }, service)).toMatchObject({ recorded: 3, repeated: 0 });
    const more = [...reported, action({ username, pointKeys: [2n, 3n], methodGroup: Method_Group.NOTRACE })];
    const twice = [more, more].map((actions) => ({ actions }));
    async function* stream() {
      yield* twice;
    }
    expect(await audit.recordActionStream(stream(), service)).toMatchObject({ recorded: 1n, repeated: 7n });
    expect((await read({ username })).actions).toHaveLength(4);
    expect(await usageOf(username)).toEqual(
      expect.arrayContaining([
        { requests: 3, points: 21, unique_points: 2 },
        { requests: 1, points: 7, unique_points: 2 },
      ]),
    );
  });

  test("records equal actions of one batch once, and counts points that are too many for one statement", async () => {
    const username = await app.user();
    const many = action({ username, pointKeys: Array.from({ length: 20_001 }, (_, index) => BigInt(index)) });
    const few = action({ username, pointKeys: [0n, 20_001n] });
    expect(await audit.recordActions({ actions: [many, few, many] }, service)).toMatchObject({
      recorded: 2,
      repeated: 1,
    });
    expect(await audit.recordActions({ actions: [few, many, many] }, service)).toMatchObject({
      recorded: 0,
      repeated: 3,
    });
    expect(await usageOf(username)).toEqual([{ requests: 2, points: 14, unique_points: 20_002 }]);
  });

  test("names a contradicting action in ALREADY_EXISTS and records the other actions of its batch", async () => {
    const [username, otherUser] = [await app.user(), await app.user()];
    const first = action({ username });
    await audit.recordActions({ actions: [first] }, service);
    const changes = [{ username: otherUser }, { service: 5 }, { methodGroup: Method_Group.NOTRACE }, { points: 8 }];
    for (const change of changes) {
      const actions = [action({ username }), { ...first, ...change }, first];
      const error = ConnectError.from(
        await audit.recordActions({ actions }, service).catch((thrown: unknown) => thrown),
      );
      expect([error.code, error.rawMessage]).toEqual([
        Code.AlreadyExists,
        expect.stringMatching(new RegExp(`actions\\[1\\] \\(${first.tracecode} ${first.operation}\\)$`)),
      ]);
    }
    // Within a batch, the first duplicate wins and the second is named.
    const [original, change] = [action({ username }), { points: 9 }];
    await expect(
      audit.recordActions({ actions: [original, { ...original, ...change }, original] }, service),
    ).rejects.toThrow("actions[1]");
    expect(await audit.recordActions({ actions: [first, original] }, service)).toMatchObject({
      recorded: 0,
      repeated: 2,
    });
    expect((await read({ username })).actions).toHaveLength(1 + changes.length + 1);
    expect((await read({ username: otherUser })).actions).toEqual([]);
    expect(await usageOf(otherUser)).toEqual([]);
  });

  test("treats actions of the same microsecond as one, and of the next microsecond as another", async () => {
    const username = await app.user();
    const at = (nanos: number) => ({ seconds: BigInt(Math.floor(Date.now() / 1000) - 60), nanos });
    const tracecode = randomUUID();
    const actions = [at(1000), at(1999), at(2000)].map((time) => action({ username, tracecode, time }));
    expect(await audit.recordActions({ actions }, service)).toMatchObject({ recorded: 2, repeated: 1 });
    // The minute before may be of another day.
    const from = new Date(Date.now() - 120_000).toISOString();
    expect((await read({ username, from })).actions.map(({ tracedata }: Json) => tracedata.time.slice(-8))).toEqual([
      ".000001Z",
      ".000002Z",
    ]);
    expect(await usageOf(username)).toEqual([{ requests: 2, points: 14, unique_points: 0 }]);
  });

  test("counts an action on the user's local day of its time", async () => {
    const username = await app.user({ timezone: -11 });
    const time = new Date(Date.now() - 5 * 86_400_000);
    time.setUTCHours(10, 0, 0, 0);
    await audit.recordActions({ actions: [action({ username, time: timestampFromDate(time) })] }, service);
    const before = new Date(time.getTime() - 86_400_000).toISOString().slice(0, 10);
    expect(await app.database("usage_with_pending").where({ username }).select("date")).toEqual([{ date: before }]);
  });

  test("counts a late action for the user as of its time, even after the user moved or was deleted", async () => {
    const username = await app.user({ timezone: 0 });
    const before = new Date();
    before.setUTCDate(before.getUTCDate() - 2);
    before.setUTCHours(23, 30, 0, 0);
    // Backdates the account by three days.
    await app
      .database("user_standing")
      .where({ username })
      .update({ since: new Date(before.getTime() - 86_400_000) });
    const [{ company_key }] = await app.database("user_account").where({ username });
    const fields = { username, company_key, enabled: true, roles: [] };
    await app.http("PUT", "/admin/users", { token: app.admin, body: { ...fields, timezone: 3 } });
    await app.http("DELETE", `/admin/users/${username}`, { token: app.admin });
    const reported = action({ username, time: timestampFromDate(before) });
    expect(await audit.recordActions({ actions: [reported] }, service)).toMatchObject({ recorded: 1 });
    const days = await app.database("usage_with_pending").where({ username }).select("date", "company_key");
    expect(days).toEqual([{ date: before.toISOString().slice(0, 10), company_key }]);

    await expect(audit.recordActions({ actions: [action({ username })] }, service)).rejects.toThrow(
      `must be a user who existed at that time: ${username}`,
    );
    await app.user({ username, roles: ["USER"] });
    await audit.recordActions({ actions: [action({ username, time: timestampFromDate(before) })] }, service);
    const namesake = await app.token(username);
    expect((await read({ from: before.toISOString() }, namesake)).actions).toEqual([]);
    expect(await audit.recordActions({ actions: [action({ username })] }, service)).toMatchObject({ recorded: 1 });
  });

  test("waits for no other server that raises the statistics of the same user", async () => {
    const username = await app.user();
    await audit.recordActions({ actions: [action({ username })] }, service);
    // The roll-up has written the row that another server raises.
    await expect.poll(() => app.database("usage_day").where({ username }).first(), { timeout: 10_000 }).toBeDefined();
    await app.database.transaction(async (other) => {
      await other("usage_day").where({ username }).update({ requests: 5 });
      const answer = await audit.recordActions({ actions: [action({ username })] }, { ...service, timeoutMs: 5000 });
      expect(answer).toMatchObject({ recorded: 1 });
      await other.rollback();
    });
    expect(await usageOf(username)).toEqual([{ requests: 2, points: 14, unique_points: 0 }]);
  });

  test("counts an action in the user's company of its time, even right after a move", async () => {
    const username = await app.user();
    const reported = { username, points: 7 };
    await audit.recordActions({ actions: [action(reported)] }, service);
    const company_key = await app.company();
    const fields = { username, company_key, enabled: true, roles: [], timezone: 0 };
    await app.http("PUT", "/admin/users", { token: app.admin, body: fields });
    await audit.recordActions({ actions: [action(reported)] }, service);
    const usage = await app.database("usage_with_pending").where({ username }).select("company_key", "requests");
    expect(usage).toHaveLength(2);
    expect(usage).toContainEqual({ company_key, requests: 1 });
  });

  test("looks for a repeated action only in the partition of its day", async () => {
    const username = await app.user();
    const reported = action({ username });
    await audit.recordActions({ actions: [reported] }, service);
    const old = new Date(Date.now() - 20 * 86_400_000);
    await audit.recordActions({ actions: [action({ username, time: timestampFromDate(old) })] }, service);
    const [partition] = await app
      .database("audit_action")
      .where({ username })
      .orderBy("time")
      .limit(1)
      .select({
        name: app.database.raw("tableoid::regclass::text"),
      });
    const locked = await app.database.transaction(async (transaction) => {
      await transaction.raw("lock table ?? in access exclusive mode", [partition.name]);
      return audit.recordActions({ actions: [reported, action({ username })] }, { ...service, timeoutMs: 4000 });
    });
    expect(locked).toMatchObject({ recorded: 1, repeated: 1 });
  });

  test("records an action once when many callers report it at once", async () => {
    const users = await Promise.all([1, 2, 3].map(() => app.user()));
    const reported = Array.from({ length: 300 }, (_none, index) =>
      action({ username: users[index % 3], pointKeys: [5n] }),
    );
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_none, index) => {
        const actions = index % 2 === 0 ? reported : reported.toReversed();
        return audit.recordActions({ actions }, service);
      }),
    );
    expect(answers.reduce((sum, { recorded }) => sum + recorded, 0)).toBe(300);
    for (const username of users) {
      expect((await read({ username })).statistics.filter.total).toBe(100);
      expect(await usageOf(username)).toEqual([{ requests: 100, points: 700, unique_points: 1 }]);
    }
  });
});

describe("refuses", () => {
  test("a batch with wrong actions, and names every violation", async () => {
    const username = await app.user();
    const wrong = [
      action({ username }),
      action({ username: "no_such_user" }),
      action({ username, time: timestampFromDate(new Date(Date.now() + 2 * 3_600_000)) }),
      action({ username, time: timestampFromDate(new Date(Date.now() - 500 * 86_400_000)) }),
    ];
    await expect(audit.recordActions({ actions: wrong }, service)).rejects.toThrow(
      "actions[1].username: must be a user who existed at that time: no_such_user; actions[2].time: must be at most one hour ahead of the server's clock; actions[3].time: must be within the last 400 days, which the log keeps",
    );
    expect((await read({ username })).actions).toEqual([]);
  });

  test.each([
    [{ service: Service_Name.ADMIN }, "actions[0].service"],
    [{ operation: "run\u0000it" }, "actions[0].operation"],
    [{ server: "one\u0007" }, "actions[0].server"],
  ])("%o", async (fields, field) => {
    const actions = [action({ username: await app.user(), ...fields })];
    await expect(audit.recordActions({ actions }, service)).rejects.toThrow(field);
  });

  test("a wrong batch of a stream, and keeps the batches before it", async () => {
    const username = await app.user();
    async function* stream() {
      yield { actions: [action({ username })] };
      yield { actions: [action({ username }), action({ username, operation: "x" })] };
    }
    await expect(audit.recordActionStream(stream(), service)).rejects.toThrow("actions[1].operation");
    expect((await read({ username })).actions).toHaveLength(1);
  });

  test.each([
    ["sort_field=password", "sort_field: must be one of"],
    ["from=2026-01-02T00:00:01Z&to=2026-01-02T00:00:00Z", "to: must not be before from"],
    ["from=2999-01-02T00:00:00Z", "from: must not be after now when to is absent"],
    ["to=2026-01-02T00:00:00Z", "to: must not be before from, which is the start of today when absent"],
    ["from=yesterday", "from"],
    ["service_name=UNKNOWN", "service_name"],
    ["limit=10000001", "limit"],
    ["operation_id=ab", "operation_id"],
  ])("%s", async (query, message) => {
    const { status, body } = await app.http("GET", `/admin/audit?${query}`, { token: app.admin });
    expect(status).toBe(400);
    expect(body.message).toContain(message);
  });
});

test("a list starts at the caller's day without from, and ends now without to", async () => {
  const company_key = await app.company();
  const username = await app.user({ company_key, timezone: 0 });
  const reader = await app.token(await app.user({ company_key, roles: ["PARTNER"], timezone: -9 }));
  const offset = -9 * 3_600_000;
  const midnight = Math.floor((Date.now() + offset) / 86_400_000) * 86_400_000 - offset;
  const at = (ms: number, operation: string) => action({ username, operation, time: timestampFromDate(new Date(ms)) });
  const actions = [at(midnight - 1, "yesterday"), at(midnight, "today"), at(Date.now() + 1_800_000, "later")];
  await audit.recordActions({ actions }, service);
  const operations = async (query: Record<string, string>) =>
    (await read({ username, ...query }, reader)).actions.map(({ tracedata }: Json) => tracedata.operation);
  expect(await operations({})).toEqual(["today"]);
  expect(await operations({ from: new Date(midnight - 1).toISOString() })).toEqual(["yesterday", "today"]);
  expect(await operations({ to: "2999-01-01T00:00:00+03:00" })).toEqual(["today", "later"]);
});

test("usage verification finds no difference until a row is deleted", async () => {
  const username = await app.user({ timezone: 12 });
  const period = { from: "2020-01-01", to: "2999-01-01", today: new Date().toISOString().slice(0, 10) };
  const reported = [1, 2].map(() => action({ username, pointKeys: [1n, 2n] }));
  await audit.recordActions({ actions: reported }, service);
  expect((await verifyUsage(app.database, period)).differences).toEqual([]);
  await app.database("audit_action").where({ tracecode: reported[0]?.tracecode }).delete();
  expect((await verifyUsage(app.database, period)).differences).toMatchObject([
    { username, usage: [2, 14, 2], ledger: [1, 7, 2] },
  ]);
});

test("callers see only their own tenant, and no actions of a deleted user of the same name", async () => {
  const company_key = await app.company();
  const username = await app.user({ company_key, roles: ["USER"] });
  const colleague = await app.user({ company_key });
  const outsider = await app.user();
  await audit.recordActions(
    { actions: [username, colleague, outsider].map((name) => action({ username: name })) },
    service,
  );
  const names = async (token: string, query: Record<string, string> = {}) => {
    const { actions, statistics } = await read({ service_name: "ROUTING", ...query }, token);
    expect(statistics.filter.total).toBe(actions.length);
    return actions.map((listed: Json) => listed.username);
  };
  const partner = await app.token(await app.user({ company_key, roles: ["PARTNER"] }));
  expect(await names(await app.token(username))).toEqual([username]);
  expect(await names(await app.token(username), { username: colleague })).toEqual([]);
  expect((await names(partner)).toSorted()).toEqual([username, colleague].toSorted());
  expect(await names(partner, { username: outsider })).toEqual([]);
  const [{ company_key: otherCompany }] = await app.database("user_account").where({ username: outsider });
  expect(await names(partner, { company_key: otherCompany })).toEqual([]);

  await app.http("DELETE", `/admin/users/${username}`, { token: app.admin });
  await app.user({ username, company_key: otherCompany, roles: ["USER"] });
  const successor = await app.token(username);
  expect(await names(successor)).toEqual([]);
  // The log gets the successor's own login within a second, and nothing else.
  await expect.poll(async () => (await read({}, successor)).statistics.overall.total).toBe(1);
  const { actions, statistics } = await read({}, successor);
  expect(actions.map(({ tracedata }: Json) => tracedata.operation)).toEqual(["login"]);
  expect(statistics.overall.total).toBe(1);
  expect(await names(app.admin, { username })).toEqual([username]);
  expect(await names(partner, { username })).toEqual([username]);
});

test("filters actions by outcome and counts them exactly over hours, days and their edges", async () => {
  const username = await app.user();
  const outcomes = ["SUCCESS", "FAILURE", "CANCELLED", "SUCCESS", "FAILURE"];
  const ms = Date.now();
  const hourMs = 3_600_000;
  const times = [ms - 1000, ms - 2 * hourMs, ms - 26 * hourMs, ms - 50 * hourMs, ms - 51 * hourMs, ms - 100 * hourMs];
  const actions = times.flatMap((time) =>
    outcomes.map((outcome) => ({
      tracecode: randomUUID(),
      username,
      service: "ROUTING",
      operation: "run_plan",
      method_group: "PLAN",
      outcome,
      time: new Date(time).toISOString(),
    })),
  );
  expect((await app.http("POST", "/audit/actions", { token: app.admin, body: { actions } })).status).toBe(200);
  const { company_key } = (await app.http("GET", `/admin/users/${username}`, { token: app.admin })).body;
  const read = async (query: string) => {
    const from = new Date(ms - 120 * hourMs).toISOString();
    const path = `/admin/audit?from=${from}&operation_id=run_plan&${query}`;
    return (await app.http("GET", path, { token: app.admin })).body;
  };
  for (const by of [`username=${username}`, `company_key=${company_key}`]) {
    for (const [outcome, each] of Object.entries({ SUCCESS: 2, FAILURE: 2, CANCELLED: 1 })) {
      const { actions: found, statistics } = await read(`${by}&outcome=${outcome}`);
      expect(found.map((action: Json) => action.outcome)).toEqual(Array.from({ length: 6 * each }, () => outcome));
      expect(statistics.filter.total).toBe(6 * each);
      const page = await read(`${by}&outcome=${outcome}&offset=${2 * each}&limit=${each}&sort_direction=DESC`);
      expect(page.actions.length).toBe(each);
    }
  }
  expect((await app.http("GET", "/admin/audit?outcome=WRONG", { token: app.admin })).status).toBe(400);
});

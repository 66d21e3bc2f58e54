import { randomUUID } from "node:crypto";
import { createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { AccountService } from "#gen/tollgate/v1/account_pb.js";
import { AuditService } from "#gen/tollgate/v1/audit_pb.js";
import { DataService } from "#gen/tollgate/v1/data_pb.js";
import { QuotaAdminService } from "#gen/tollgate/v1/quota_pb.js";
import { StatisticsService } from "#gen/tollgate/v1/statistics_pb.js";
import { AuthService } from "#gen/tollgate/v1/token_pb.js";
import { UserService } from "#gen/tollgate/v1/user_pb.js";
import { type Json, password, startTestApp, type TestApp } from "../../support/app.ts";

let app: TestApp;
/** Users of one company, each with a quota, usage, an action and data: of the role USER, of none, and an ADMIN. */
const users: Record<"USER" | "none" | "ADMIN", { name: string; token: string; tracecode: string }> = {
  USER: { name: "", token: "", tracecode: "" },
  none: { name: "", token: "", tracecode: "" },
  ADMIN: { name: "", token: "", tracecode: "" },
};

beforeAll(async () => {
  app = await startTestApp();
  const company_key = await app.company();
  for (const [role, user] of Object.entries(users)) {
    const name = await app.user({
      company_key,
      name: "Anna",
      phone: "+71112223333",
      timezone: 3,
      roles: role === "none" ? [] : [role],
    });
    Object.assign(user, { name, token: await app.token(name), tracecode: randomUUID() });
    const quota = { services: [{ service: "ROUTING", methods: [{ method_group: "PLAN", points_per_day: 7 }] }] };
    const action = {
      tracecode: user.tracecode,
      username: name,
      service: "ROUTING",
      operation: "run_plan",
      method_group: "PLAN",
      points: 3,
      outcome: role === "USER" ? "FAILURE" : "SUCCESS",
      time: new Date(Date.now() - 1000).toISOString(),
    };
    const put = `/admin/data/${user.tracecode}?username=${name}&filename=in.json`;
    const answers = [
      await app.http("PUT", `/admin/quotas/${name}`, { token: app.admin, body: quota }),
      await app.http("POST", "/audit/actions", { token: app.admin, body: { actions: [action] } }),
      await app.http("PUT", put, { token: app.admin, body: { name } }),
    ];
    for (const { status, body } of answers) if (status >= 300) throw new Error(`${status} ${JSON.stringify(body)}`);
  }
  // Logins are recorded asynchronously: the totals must not change between the two reads.
  const logins = async () =>
    Number((await app.database("audit_action").where({ operation: "login" }).count().first())?.count);
  const all = 1 + Object.keys(users).length;
  await vi.waitUntil(async () => (await logins()) === all, { timeout: 20_000 });
});
afterAll(() => app.stop());

const days = () => {
  const day = (offset: number) => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10);
  return `from=${day(-2)}&to=${day(2)}`;
};

test.each<[account: string, admin: (name: string) => string, pick?: (body: Json) => Json]>([
  ["/account/info", (name) => `/admin/users/${name}`, ({ enabled: _enabled, roles: _roles, ...rest }) => rest],
  ["/account/quota", (name) => `/admin/quotas/${name}`, ({ base }) => ({ base })],
  ["/account/statistics", () => "/admin/statistics"],
  ["/account/statistics?{days}", (name) => `/admin/statistics?{days}&username=${name}`],
  ["/account/report?{days}", (name) => `/admin/report?{days}&username=${name}`, (body) => body.length > 1000],
  ["/account/audit?from=2024-01-01T00:00:00Z", () => "/admin/audit?from=2024-01-01T00:00:00Z"],
  [
    "/account/audit?from=2024-01-01T00:00:00Z&outcome=FAILURE&limit=1&service_name=ROUTING",
    (name) => `/admin/audit?from=2024-01-01T00:00:00Z&outcome=FAILURE&limit=1&service_name=ROUTING&username=${name}`,
  ],
  ["/account/data/{tracecode}", () => "/admin/data/{tracecode}"],
  ["/account/data/{tracecode}/files", () => "/admin/data/{tracecode}/files"],
  ["/account/system/check", () => "/admin/system/check"],
  ["/account/system/version", () => "/admin/system/version"],
  ["/account/file/admin_en.html", () => "/admin/file/admin_en.html"],
])("%s answers as /admin does for that user", async (account, admin, pick = (body) => body) => {
  const { name, token, tracecode } = users.USER;
  const at = (path: string) => path.replace("{days}", days()).replace("{tracecode}", tracecode);
  const own = await app.http("GET", at(account), { token });
  const expected = await app.http("GET", at(admin(name)), { token });
  expect([own.status, expected.status]).toEqual([200, 200]);
  expect(own.headers.get("content-type")).toBe(expected.headers.get("content-type"));
  expect(own.headers.get("content-disposition")).toBe(expected.headers.get("content-disposition"));
  const isReport = account.startsWith("/account/report");
  // The report says when it was made.
  expect(isReport ? pick(own.body) : own.body).toEqual(pick(expected.body));
});

test("shows each caller only its own account, whatever the role", async () => {
  for (const { name, token, tracecode } of Object.values(users)) {
    const get = async (path: string) => (await app.http("GET", path, { token })).body;
    expect((await get("/account/info")).username).toBe(name);
    expect((await get(`/account/statistics?${days()}`)).users.map(({ username }: Json) => username)).toEqual([name]);
    const { actions } = await get("/account/audit?from=2024-01-01T00:00:00Z");
    expect(new Set(actions.map(({ username }: Json) => username))).toEqual(new Set([name]));
    expect(await get(`/account/data/${tracecode}`)).toEqual({ name });
    for (const { tracecode: other } of Object.values(users).filter((user) => user.name !== name)) {
      expect((await app.http("GET", `/account/data/${other}`, { token })).status).toBe(404);
    }
  }
});

test("exchanges tokens as bare JSON strings in login, validation and password change", async () => {
  const username = await app.user();
  const login = await app.http("POST", "/account/token/generation", { body: { username, password } });
  expect(login.headers.get("content-type")).toBe("application/json; charset=utf-8");
  expect([login.status, typeof login.body]).toEqual([200, "string"]);
  const validate = async (token: string) =>
    (await app.http("POST", "/account/token/validation", { body: JSON.stringify(token) })).body;
  expect(await validate(login.body)).toEqual({ valid: true, username, roles: [] });
  const body = { current_password: password, new_password: "the next one" };
  const changed = await app.http("POST", "/account/password", { token: login.body, body });
  expect([changed.status, typeof changed.body]).toEqual([200, "string"]);
  expect((await validate(login.body)).valid).toBe(false);
  expect((await validate(changed.body)).username).toBe(username);
  for (const wrong of ["{}", "7", '""', "null"]) {
    expect((await app.http("POST", "/account/token/validation", { body: wrong })).status).toBe(400);
  }
});

const transports: [string, () => Transport][] = [
  ["Connect", () => createConnectTransport({ baseUrl: app.url, httpVersion: "1.1" })],
  ["gRPC", () => createGrpcTransport({ baseUrl: app.url })],
];

test.each(transports)("over %s each answer equals that of the administrative RPC", async (_name, make) => {
  const transport = make();
  const { name: username, tracecode } = users.USER;
  const login = await createClient(AuthService, transport).createToken({ username, password });
  const options = { headers: { authorization: `Bearer ${login.token}` } };
  const account = createClient(AccountService, transport);
  /** The fields of all messages: the names of the messages differ. */
  const all = async <Item extends { $typeName: string }>(items: AsyncIterable<Item>) => {
    const list: Omit<Item, "$typeName">[] = [];
    for await (const { $typeName: _name, ...fields } of items) list.push(fields);
    return list;
  };
  const { account: info } = await account.readAccount({}, options);
  const { user } = await createClient(UserService, transport).readUser({ username }, options);
  expect(user).toMatchObject({ ...info, $typeName: user?.$typeName });
  const quotas = await createClient(QuotaAdminService, transport).readQuotas({ username }, options);
  expect((await account.readAccountQuota({}, options)).base).toEqual(quotas.base);
  const statistics = createClient(StatisticsService, transport);
  expect(await all(account.readAccountStatistics({}, options))).toEqual(
    await all(statistics.readStatistics({}, options)),
  );
  expect((await all(account.readAccountReport({}, options)))[0]?.file?.contentType).toBe(
    (await all(statistics.readReport({}, options)))[0]?.file?.contentType,
  );
  const audit = createClient(AuditService, transport);
  const from = { seconds: 1_700_000_000n };
  const to = { seconds: BigInt(Math.floor(Date.now() / 1000)) };
  expect(await all(account.readAccountAudit({ from, to }, options))).toEqual(
    await all(audit.readAudit({ from, to }, options)),
  );
  const data = createClient(DataService, transport);
  expect(await all(account.readAccountData({ tracecode }, options))).toEqual(
    await all(data.readData({ tracecode }, options)),
  );
});

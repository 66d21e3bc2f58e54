import { randomUUID } from "node:crypto";
import type {
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bindingsOf } from "../../src/gateway/binding.ts";
import { type CallOptions, password, startTestApp, type TestApp } from "../support/app.ts";
import { everyService } from "../support/services.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

const callers = {
  anonymous: undefined,
  "no role": [],
  USER: ["USER"],
  PARTNER: ["PARTNER"],
  BOT: ["BOT"],
  ADMIN: ["ADMIN"],
} as const;
type Caller = keyof typeof callers;

/** The users and companies of a case. Every case that changes them gets new ones. */
interface World {
  /** The caller's. */
  readonly token: string | undefined;
  /** The caller's username and company. */
  readonly self: string;
  readonly company: string;
  /** Another user, another administrator and a service of the caller's company. */
  readonly colleague: string;
  readonly chief: string;
  readonly machine: string;
  /** A company and a user that are not the caller's. */
  readonly otherCompany: string;
  readonly stranger: string;
}

type Call = (world: World) => [method: string, path: string, options?: CallOptions];
type Statuses = readonly [
  anonymous: number,
  noRole: number,
  user: number,
  partner: number,
  service: number,
  admin: number,
];

const services = { services: [{ service: "ROUTING", methods: [{ method_group: "PLAN", points_per_day: 5 }] }] };
const user = (username: string, company_key: string, roles: string[] = []) => ({ username, company_key, roles });
const asked = (username: string) => ({ username, service: "ROUTING", method_group: "PLAN", points: 1 });
const actionOf = (username: string) => ({
  tracecode: randomUUID(),
  username,
  service: "ROUTING",
  operation: "run_plan",
  method_group: "PLAN",
  time: new Date().toISOString(),
});
/** The id of a lease in the form of the last release, which the ledger does not hold. */
const noLease = "AQAAAAAAAQIDAABP4AAAAAAAAAAAAAAAAAAAAAA";
const fresh = () => `fresh_${Math.random().toString(36).slice(2)}`;

//  operation, target, the call, the status for: anonymous, no role, USER, PARTNER, BOT, ADMIN
const table: readonly [operation: string, target: string, call: Call, statuses: Statuses][] = [
  [
    "DeleteCompany",
    "other",
    ({ otherCompany }) => ["DELETE", `/admin/companies/${otherCompany}`],
    [401, 403, 403, 403, 403, 409],
  ],
  [
    "UpdateUser",
    "oneself without roles",
    ({ self, company }) => ["PUT", "/admin/users", { body: user(self, company) }],
    [401, 403, 403, 200, 403, 409],
  ],
  [
    "UpdateUser",
    "a colleague to BOT",
    ({ colleague, company }) => ["PUT", "/admin/users", { body: user(colleague, company, ["BOT"]) }],
    [401, 403, 403, 403, 403, 200],
  ],
  [
    "UpdateUser",
    "a BOT of own company",
    ({ machine, company }) => ["PUT", "/admin/users", { body: user(machine, company) }],
    [401, 403, 403, 403, 403, 200],
  ],
  [
    "DeleteUser",
    "a BOT of own company",
    ({ machine }) => ["DELETE", `/admin/users/${machine}`],
    [401, 403, 403, 403, 403, 204],
  ],
  ["DeleteUser", "missing", () => ["DELETE", "/admin/users/missing"], [401, 403, 403, 404, 403, 404]],
  [
    "ReadUsers",
    "other company",
    ({ otherCompany }) => ["GET", `/admin/users?company_key=${otherCompany}`],
    [401, 403, 403, 200, 403, 200],
  ],
  [
    "UpdateQuotas",
    "a colleague",
    ({ colleague }) => ["PUT", `/admin/quotas/${colleague}`, { body: services }],
    [401, 403, 403, 403, 403, 204],
  ],
  [
    "DeleteQuotas",
    "a colleague",
    ({ colleague }) => ["DELETE", `/admin/quotas/${colleague}`],
    [401, 403, 403, 403, 403, 204],
  ],
  ["ReadQuotas", "missing", () => ["GET", "/admin/quotas/missing"], [401, 403, 404, 404, 403, 404]],
  [
    "CreateToken",
    "oneself",
    ({ self }) => ["POST", "/admin/token/generation", { body: { username: self, password } }],
    [200, 200, 200, 200, 200, 200],
  ],
  [
    "ValidateToken",
    "a token",
    () => ["POST", "/admin/token/validation", { body: { token: app.admin } }],
    [200, 200, 200, 200, 200, 200],
  ],
  [
    "UpdatePassword",
    "oneself",
    () => ["POST", "/admin/password", { body: { current_password: password, new_password: "another one" } }],
    [401, 200, 200, 200, 200, 200],
  ],

  [
    "CreateCompany",
    "a new one",
    () => ["POST", "/admin/companies", { body: { key: fresh() } }],
    [401, 403, 403, 403, 403, 201],
  ],
  [
    "UpdateCompany",
    "own",
    ({ company }) => ["PUT", "/admin/companies", { body: { key: company } }],
    [401, 403, 403, 200, 403, 200],
  ],
  [
    "UpdateCompany",
    "other",
    ({ otherCompany }) => ["PUT", "/admin/companies", { body: { key: otherCompany } }],
    [401, 403, 403, 404, 403, 200],
  ],
  [
    "PatchCompany",
    "own",
    ({ company }) => ["PATCH", `/admin/companies/${company}`, { body: { detail: "x" } }],
    [401, 403, 403, 200, 403, 200],
  ],
  [
    "PatchCompany",
    "other",
    ({ otherCompany }) => ["PATCH", `/admin/companies/${otherCompany}`, { body: { detail: "x" } }],
    [401, 403, 403, 404, 403, 200],
  ],
  ["ReadCompanies", "all", () => ["GET", "/admin/companies"], [401, 403, 403, 200, 403, 200]],
  ["ReadCompany", "own", ({ company }) => ["GET", `/admin/companies/${company}`], [401, 403, 403, 200, 403, 200]],
  [
    "ReadCompany",
    "other",
    ({ otherCompany }) => ["GET", `/admin/companies/${otherCompany}`],
    [401, 403, 403, 404, 403, 200],
  ],
  ["ReadCompany", "missing", () => ["GET", "/admin/companies/missing"], [401, 403, 403, 404, 403, 404]],
  ["DeleteCompany", "own", ({ company }) => ["DELETE", `/admin/companies/${company}`], [401, 403, 403, 403, 403, 409]],
  ["DeleteCompany", "missing", () => ["DELETE", "/admin/companies/missing"], [401, 403, 403, 403, 403, 404]],

  [
    "CreateUser",
    "in own company",
    ({ company }) => ["POST", "/admin/users", { body: user(fresh(), company, ["USER"]) }],
    [401, 403, 403, 201, 403, 201],
  ],
  [
    "CreateUser",
    "a PARTNER in own company",
    ({ company }) => ["POST", "/admin/users", { body: user(fresh(), company, ["PARTNER"]) }],
    [401, 403, 403, 201, 403, 201],
  ],
  [
    "CreateUser",
    "an ADMIN in own company",
    ({ company }) => ["POST", "/admin/users", { body: user(fresh(), company, ["ADMIN"]) }],
    [401, 403, 403, 403, 403, 201],
  ],
  [
    "CreateUser",
    "a BOT in own company",
    ({ company }) => ["POST", "/admin/users", { body: user(fresh(), company, ["BOT"]) }],
    [401, 403, 403, 403, 403, 201],
  ],
  [
    "CreateUser",
    "in other company",
    ({ otherCompany }) => ["POST", "/admin/users", { body: user(fresh(), otherCompany) }],
    [401, 403, 403, 400, 403, 201],
  ],
  [
    "CreateUser",
    "in a missing company",
    () => ["POST", "/admin/users", { body: user(fresh(), "missing") }],
    [401, 403, 403, 400, 403, 400],
  ],
  [
    "UpdateUser",
    "a colleague",
    ({ colleague, company }) => ["PUT", "/admin/users", { body: user(colleague, company) }],
    [401, 403, 403, 200, 403, 200],
  ],
  [
    "UpdateUser",
    "a colleague into other company",
    ({ colleague, otherCompany }) => ["PUT", "/admin/users", { body: user(colleague, otherCompany) }],
    [401, 403, 403, 400, 403, 200],
  ],
  [
    "UpdateUser",
    "a colleague to ADMIN",
    ({ colleague, company }) => ["PUT", "/admin/users", { body: user(colleague, company, ["ADMIN"]) }],
    [401, 403, 403, 403, 403, 200],
  ],
  [
    "UpdateUser",
    "an ADMIN of own company",
    ({ chief, company }) => ["PUT", "/admin/users", { body: user(chief, company) }],
    [401, 403, 403, 403, 403, 200],
  ],
  [
    "UpdateUser",
    "a stranger",
    ({ stranger, otherCompany }) => ["PUT", "/admin/users", { body: user(stranger, otherCompany) }],
    [401, 403, 403, 404, 403, 200],
  ],
  [
    "UpdateUser",
    "missing",
    ({ company }) => ["PUT", "/admin/users", { body: user("missing", company) }],
    [401, 403, 403, 404, 403, 404],
  ],
  [
    "PatchUser",
    "a colleague",
    ({ colleague }) => ["PATCH", `/admin/users/${colleague}`, { body: { enabled: false } }],
    [401, 403, 403, 200, 403, 200],
  ],
  [
    "PatchUser",
    "a colleague into other company",
    ({ colleague, otherCompany }) => ["PATCH", `/admin/users/${colleague}`, { body: { company_key: otherCompany } }],
    [401, 403, 403, 400, 403, 200],
  ],
  [
    "PatchUser",
    "a colleague to ADMIN",
    ({ colleague }) => ["PATCH", `/admin/users/${colleague}`, { body: { roles: ["ADMIN"] } }],
    [401, 403, 403, 403, 403, 200],
  ],
  [
    "PatchUser",
    "an ADMIN of own company",
    ({ chief }) => ["PATCH", `/admin/users/${chief}`, { body: { name: "Chief" } }],
    [401, 403, 403, 403, 403, 200],
  ],
  [
    "PatchUser",
    "a BOT of own company",
    ({ machine }) => ["PATCH", `/admin/users/${machine}`, { body: { name: "Machine" } }],
    [401, 403, 403, 403, 403, 200],
  ],
  [
    "PatchUser",
    "a stranger",
    ({ stranger }) => ["PATCH", `/admin/users/${stranger}`, { body: { name: "Anna" } }],
    [401, 403, 403, 404, 403, 200],
  ],
  ["ReadUsers", "all", () => ["GET", "/admin/users"], [401, 403, 403, 200, 403, 200]],
  ["ReadUser", "oneself", ({ self }) => ["GET", `/admin/users/${self}`], [401, 403, 200, 200, 403, 200]],
  ["ReadUser", "a colleague", ({ colleague }) => ["GET", `/admin/users/${colleague}`], [401, 403, 404, 200, 403, 200]],
  ["ReadUser", "a stranger", ({ stranger }) => ["GET", `/admin/users/${stranger}`], [401, 403, 404, 404, 403, 200]],
  [
    "DeleteUser",
    "a colleague",
    ({ colleague }) => ["DELETE", `/admin/users/${colleague}`],
    [401, 403, 403, 204, 403, 204],
  ],
  [
    "DeleteUser",
    "an ADMIN of own company",
    ({ chief }) => ["DELETE", `/admin/users/${chief}`],
    [401, 403, 403, 403, 403, 204],
  ],
  [
    "DeleteUser",
    "a stranger",
    ({ stranger }) => ["DELETE", `/admin/users/${stranger}`],
    [401, 403, 403, 404, 403, 204],
  ],
  ["DeleteUser", "oneself", ({ self }) => ["DELETE", `/admin/users/${self}`], [401, 403, 403, 409, 403, 409]],

  [
    "UpdateQuotas",
    "oneself",
    ({ self }) => ["PUT", `/admin/quotas/${self}`, { body: services }],
    [401, 403, 403, 403, 403, 204],
  ],
  [
    "UpdateQuotas",
    "a stranger",
    ({ stranger }) => ["PUT", `/admin/quotas/${stranger}`, { body: services }],
    [401, 403, 403, 403, 403, 204],
  ],
  ["ReadQuotas", "oneself", ({ self }) => ["GET", `/admin/quotas/${self}`], [401, 403, 200, 200, 403, 200]],
  [
    "ReadQuotas",
    "a colleague",
    ({ colleague }) => ["GET", `/admin/quotas/${colleague}`],
    [401, 403, 404, 200, 403, 200],
  ],
  [
    "ReadStatistics",
    "a stranger",
    ({ stranger }) => ["GET", `/admin/statistics?username=${stranger}`],
    [401, 403, 200, 200, 403, 200],
  ],
  [
    "ReadReport",
    "a stranger",
    ({ stranger }) => ["GET", `/admin/report?username=${stranger}`],
    [401, 403, 200, 200, 403, 200],
  ],
  ["ReadDataFiles", "ok", () => ["GET", `/admin/data/${randomUUID()}/files`], [401, 403, 200, 200, 403, 200]],
  ["ReadData", "missing", () => ["GET", `/admin/data/${randomUUID()}`], [401, 403, 404, 404, 403, 404]],
  ["ReadAudit", "", () => ["GET", "/admin/audit"], [401, 403, 200, 200, 403, 200]],
  [
    "RecordActions",
    "of a missing user",
    () => ["POST", "/audit/actions", { body: { actions: [actionOf("missing")] } }],
    [401, 403, 403, 403, 400, 400],
  ],
  ["ReadQuotas", "a stranger", ({ stranger }) => ["GET", `/admin/quotas/${stranger}`], [401, 403, 404, 404, 403, 200]],
  ["DeleteQuotas", "oneself", ({ self }) => ["DELETE", `/admin/quotas/${self}`], [401, 403, 403, 403, 403, 204]],
  [
    "DeleteQuotas",
    "a stranger",
    ({ stranger }) => ["DELETE", `/admin/quotas/${stranger}`],
    [401, 403, 403, 403, 403, 204],
  ],

  [
    "ReadUserAlertThresholds",
    "oneself",
    ({ self }) => ["GET", `/admin/users/${self}/alert-thresholds`],
    [401, 403, 200, 200, 403, 200],
  ],
  [
    "ReadUserAlertThresholds",
    "a colleague",
    ({ colleague }) => ["GET", `/admin/users/${colleague}/alert-thresholds`],
    [401, 403, 404, 200, 403, 200],
  ],
  [
    "ReadUserAlertThresholds",
    "an ADMIN of own company",
    ({ chief }) => ["GET", `/admin/users/${chief}/alert-thresholds`],
    [401, 403, 404, 200, 403, 200],
  ],
  [
    "ReadUserAlertThresholds",
    "a stranger",
    ({ stranger }) => ["GET", `/admin/users/${stranger}/alert-thresholds`],
    [401, 403, 404, 404, 403, 200],
  ],
  [
    "ReadUserAlertThresholds",
    "missing",
    () => ["GET", "/admin/users/missing/alert-thresholds"],
    [401, 403, 404, 404, 403, 404],
  ],
  [
    "ReadCompanyAlertThresholds",
    "own",
    ({ company }) => ["GET", `/admin/companies/${company}/alert-thresholds`],
    [401, 403, 403, 200, 403, 200],
  ],
  [
    "ReadCompanyAlertThresholds",
    "other",
    ({ otherCompany }) => ["GET", `/admin/companies/${otherCompany}/alert-thresholds`],
    [401, 403, 403, 404, 403, 200],
  ],
  [
    "ReadCompanyAlertThresholds",
    "missing",
    () => ["GET", "/admin/companies/missing/alert-thresholds"],
    [401, 403, 403, 404, 403, 404],
  ],
  [
    "UpdateUserAlertThresholds",
    "oneself",
    ({ self }) => ["PUT", `/admin/users/${self}/alert-thresholds`, { body: { thresholds: ["50%"] } }],
    [401, 403, 403, 200, 403, 200],
  ],
  [
    "UpdateUserAlertThresholds",
    "a colleague",
    ({ colleague }) => ["PUT", `/admin/users/${colleague}/alert-thresholds`, { body: { thresholds: ["50%"] } }],
    [401, 403, 403, 200, 403, 200],
  ],
  [
    "UpdateUserAlertThresholds",
    "an ADMIN of own company",
    ({ chief }) => ["PUT", `/admin/users/${chief}/alert-thresholds`, { body: { thresholds: ["50%"] } }],
    [401, 403, 403, 403, 403, 200],
  ],
  [
    "UpdateUserAlertThresholds",
    "a stranger",
    ({ stranger }) => ["PUT", `/admin/users/${stranger}/alert-thresholds`, { body: { thresholds: ["50%"] } }],
    [401, 403, 403, 404, 403, 200],
  ],
  [
    "UpdateUserAlertThresholds",
    "missing",
    () => ["PUT", "/admin/users/missing/alert-thresholds", { body: { thresholds: ["50%"] } }],
    [401, 403, 403, 404, 403, 404],
  ],
  [
    "UpdateCompanyAlertThresholds",
    "own",
    ({ company }) => ["PUT", `/admin/companies/${company}/alert-thresholds`, { body: { thresholds: ["50%"] } }],
    [401, 403, 403, 200, 403, 200],
  ],
  [
    "UpdateCompanyAlertThresholds",
    "other",
    ({ otherCompany }) => [
      "PUT",
      `/admin/companies/${otherCompany}/alert-thresholds`,
      { body: { thresholds: ["50%"] } },
    ],
    [401, 403, 403, 404, 403, 200],
  ],
  [
    "UpdateCompanyAlertThresholds",
    "missing",
    () => ["PUT", "/admin/companies/missing/alert-thresholds", { body: { thresholds: ["50%"] } }],
    [401, 403, 403, 404, 403, 404],
  ],
  [
    "DeleteUserAlertThresholds",
    "oneself",
    ({ self }) => ["DELETE", `/admin/users/${self}/alert-thresholds`],
    [401, 403, 403, 204, 403, 204],
  ],
  [
    "DeleteUserAlertThresholds",
    "a colleague",
    ({ colleague }) => ["DELETE", `/admin/users/${colleague}/alert-thresholds`],
    [401, 403, 403, 204, 403, 204],
  ],
  [
    "DeleteUserAlertThresholds",
    "an ADMIN of own company",
    ({ chief }) => ["DELETE", `/admin/users/${chief}/alert-thresholds`],
    [401, 403, 403, 403, 403, 204],
  ],
  [
    "DeleteUserAlertThresholds",
    "a stranger",
    ({ stranger }) => ["DELETE", `/admin/users/${stranger}/alert-thresholds`],
    [401, 403, 403, 404, 403, 204],
  ],
  [
    "DeleteUserAlertThresholds",
    "missing",
    () => ["DELETE", "/admin/users/missing/alert-thresholds"],
    [401, 403, 403, 404, 403, 404],
  ],
  [
    "DeleteCompanyAlertThresholds",
    "own",
    ({ company }) => ["DELETE", `/admin/companies/${company}/alert-thresholds`],
    [401, 403, 403, 204, 403, 204],
  ],
  [
    "DeleteCompanyAlertThresholds",
    "other",
    ({ otherCompany }) => ["DELETE", `/admin/companies/${otherCompany}/alert-thresholds`],
    [401, 403, 403, 404, 403, 204],
  ],
  [
    "DeleteCompanyAlertThresholds",
    "missing",
    () => ["DELETE", "/admin/companies/missing/alert-thresholds"],
    [401, 403, 403, 404, 403, 404],
  ],

  ["ReadAccount", "", () => ["GET", "/account/info"], [401, 200, 200, 200, 200, 200]],
  ["ReadAccountQuota", "", () => ["GET", "/account/quota"], [401, 200, 200, 200, 200, 200]],
  ["ReadAccountStatistics", "", () => ["GET", "/account/statistics"], [401, 200, 200, 200, 200, 200]],
  ["ReadAccountReport", "", () => ["GET", "/account/report"], [401, 200, 200, 200, 200, 200]],
  ["ReadAccountAudit", "", () => ["GET", "/account/audit"], [401, 200, 200, 200, 200, 200]],
  ["ReadAccountData", "missing", () => ["GET", `/account/data/${randomUUID()}`], [401, 404, 404, 404, 404, 404]],
  ["ReadAccountDataFiles", "", () => ["GET", `/account/data/${randomUUID()}/files`], [401, 200, 200, 200, 200, 200]],
  [
    "UpdatePassword",
    "oneself, by /account",
    () => ["POST", "/account/password", { body: { current_password: password, new_password: "another one" } }],
    [401, 200, 200, 200, 200, 200],
  ],

  ["Check", "", () => ["GET", "/admin/system/check"], [200, 200, 200, 200, 200, 200]],
  ["Version", "", () => ["GET", "/admin/system/version"], [200, 200, 200, 200, 200, 200]],
  ["File", "", () => ["GET", "/admin/file/admin_en.html"], [200, 200, 200, 200, 200, 200]],
  [
    "AcquireQuota",
    "missing",
    () => ["POST", "/quota/leases", { body: { ...asked("missing"), operation_id: randomUUID() } }],
    [401, 403, 403, 403, 404, 404],
  ],
  [
    "CheckQuota",
    "missing",
    () => ["POST", "/quota/leases:check", { body: asked("missing") }],
    [401, 403, 403, 403, 404, 404],
  ],
  [
    "BatchAcquireQuota",
    "oneself",
    ({ self }) => [
      "POST",
      "/quota/leases:batchAcquire",
      { body: { requests: [{ ...asked(self), operation_id: randomUUID() }] } },
    ],
    [401, 403, 403, 403, 200, 200],
  ],
  [
    "BatchSettleLeases",
    "missing",
    () => ["POST", "/quota/leases:batchSettle", { body: { requests: [{ lease_id: noLease, points: 1 }] } }],
    [401, 403, 403, 403, 200, 200],
  ],
  [
    "RenewLease",
    "missing",
    () => ["POST", `/quota/leases/${noLease}:renew`, { body: {} }],
    [401, 403, 403, 403, 404, 404],
  ],
  [
    "SettleLease",
    "missing",
    () => ["POST", `/quota/leases/${noLease}:settle`, { body: { points: 1 } }],
    [401, 403, 403, 403, 404, 404],
  ],
  [
    "ReleaseLease",
    "missing",
    () => ["POST", `/quota/leases/${noLease}:release`, { body: {} }],
    [401, 403, 403, 403, 404, 404],
  ],
  [
    "ForceReleaseLease",
    "missing",
    () => ["POST", `/quota/leases/${noLease}:forceRelease`, { body: {} }],
    [401, 403, 403, 403, 403, 404],
  ],
  ...(["GetQuotaUsage", "ListLeases"] as const).flatMap((operation) => {
    const path = (username: string) =>
      operation === "GetQuotaUsage" ? `/quota/usage/${username}` : `/quota/leases?username=${username}`;
    return [
      [operation, "oneself", ({ self }: World) => ["GET", path(self)], [401, 403, 200, 200, 200, 200]],
      [operation, "a colleague", ({ colleague }: World) => ["GET", path(colleague)], [401, 403, 404, 200, 200, 200]],
      [operation, "a stranger", ({ stranger }: World) => ["GET", path(stranger)], [401, 403, 404, 404, 200, 200]],
    ] satisfies [string, string, Call, Statuses][];
  }),
];

async function makeWorld(caller: Caller): Promise<World> {
  const company = await app.company();
  const self = await app.user({ company_key: company, roles: callers[caller] ?? [] });
  const colleague = await app.user({ company_key: company, roles: ["USER"] });
  const chief = await app.user({ company_key: company, roles: ["ADMIN"] });
  const machine = await app.user({ company_key: company, roles: ["BOT"] });
  const otherCompany = await app.company();
  const stranger = await app.user({ company_key: otherCompany, roles: ["USER"] });
  const token = caller === "anonymous" ? undefined : await app.token(self);
  return { token, self, company, colleague, chief, machine, otherCompany, stranger };
}

const worlds = new Map<Caller, Promise<World>>();
/** Shared by cases that change nothing: they read or are refused. */
function sharedWorld(caller: Caller): Promise<World> {
  const world = worlds.get(caller) ?? makeWorld(caller);
  worlds.set(caller, world);
  return world;
}

describe.each(table)("%s %s", (_operation, _target, call, statuses) => {
  const cases = (Object.keys(callers) as Caller[]).map((caller, index) => [caller, statuses[index]] as const);
  test.each(cases)("answers %s with %i", async (caller, status) => {
    const shared = await sharedWorld(caller);
    const isChange = call(shared)[0] !== "GET" && Number(status) < 400;
    const world = isChange ? await makeWorld(caller) : shared;
    const { token } = world;
    const [method, path, options] = call(world);
    const answer = await app.http(method, path, { ...options, token });
    expect({ status: answer.status, body: answer.status === status ? undefined : answer.body }).toEqual({ status });
  });
});

test("the table has every RPC that HTTP can call", async () => {
  const all = (await everyService()).flatMap(({ methods }) => methods).filter((method) => !isStream(method));
  const operations = [...new Set(table.map(([operation]) => operation))];
  expect(operations.toSorted()).toEqual(all.map(({ name }) => name).toSorted());
});

const streams: Record<string, Readonly<Record<Caller, Code | undefined>>> = {
  PutData: {
    anonymous: Code.Unauthenticated,
    "no role": Code.PermissionDenied,
    USER: Code.PermissionDenied,
    PARTNER: Code.PermissionDenied,
    BOT: Code.InvalidArgument,
    ADMIN: Code.InvalidArgument,
  },
  RecordActionStream: {
    anonymous: Code.Unauthenticated,
    "no role": Code.PermissionDenied,
    USER: Code.PermissionDenied,
    PARTNER: Code.PermissionDenied,
    BOT: undefined,
    ADMIN: undefined,
  },
  AcquireQuotas: {
    anonymous: Code.Unauthenticated,
    "no role": Code.PermissionDenied,
    USER: Code.PermissionDenied,
    PARTNER: Code.PermissionDenied,
    BOT: undefined,
    ADMIN: undefined,
  },
  WatchQuotaUsage: {
    anonymous: Code.Unauthenticated,
    "no role": Code.PermissionDenied,
    USER: Code.Unimplemented,
    PARTNER: Code.Unimplemented,
    BOT: Code.Unimplemented,
    ADMIN: Code.Unimplemented,
  },
  SettleLeases: {
    anonymous: Code.Unauthenticated,
    "no role": Code.PermissionDenied,
    USER: Code.PermissionDenied,
    PARTNER: Code.PermissionDenied,
    BOT: undefined,
    ADMIN: undefined,
  },
};

test("every streaming RPC admits exactly the roles that may call it", async () => {
  const all = (await everyService()).flatMap(({ methods }) => methods).filter((method) => isStream(method));
  expect(all.map(({ name }) => name).toSorted()).toEqual(Object.keys(streams).toSorted());
  const transport = createGrpcTransport({ baseUrl: app.url });
  for (const method of all) {
    for (const caller of Object.keys(callers) as Caller[]) {
      const { token } = await sharedWorld(caller);
      const headers = { ...(token !== undefined && { authorization: `Bearer ${token}` }) };
      const outcome = transport
        .stream(method, undefined, undefined, headers, (async function* () {})())
        .then(async ({ message }) => {
          // The request stream is empty, which is an error unless a stream is expected: an admitted caller gets no message, or one empty summary.
          const expected = method.methodKind === "client_streaming" ? 1 : 0;
          let answers = 0;
          for await (const _answer of message) answers += 1;
          return answers === expected ? undefined : `${answers} answers`;
        })
        .catch((error: unknown) => ConnectError.from(error).code);
      expect([method.name, caller, await outcome]).toEqual([method.name, caller, streams[method.name]?.[caller]]);
    }
  }
});

/** Whether the RPC takes a stream, or returns one that HTTP/JSON does not have. */
function isStream(
  method: DescMethod,
): method is DescMethodServerStreaming | DescMethodClientStreaming | DescMethodBiDiStreaming {
  const isResponseStream =
    method.methodKind === "server_streaming" && bindingsOf(method.parent).every((binding) => binding.method !== method);
  return isResponseStream || method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
}

test("the response time does not reveal the usernames of another company to a partner", async () => {
  const stranger = await app.user({ company_key: await app.company() });
  const token = await app.token(await app.user({ roles: ["PARTNER"] }));
  const times: Record<string, number[]> = { [stranger]: [], missing: [] };
  // Alternating, so that other load on the machine slows both down.
  for (let round = 0; round < 60; round += 1) {
    for (const [name, list] of Object.entries(times)) {
      const began = performance.now();
      expect((await app.http("GET", `/quota/usage/${name}`, { token })).status).toBe(404);
      list.push(performance.now() - began);
    }
  }
  const median = (list: number[] = []) => list.toSorted((left, right) => left - right)[30] ?? Number.NaN;
  const ratio = median(times[stranger]) / median(times.missing);
  expect(ratio).toBeGreaterThan(0.6);
  expect(ratio).toBeLessThan(1.6);
});

test("BOT with another role works for all companies and reads no more than the other role", async () => {
  const stranger = await app.user({ company_key: await app.company() });
  const status = async (roles: string[], method: string, path: string, body?: object) => {
    const token = await app.token(await app.user({ roles }));
    return (await app.http(method, path, { token, ...(body && { body }) })).status;
  };
  for (const roles of [["BOT"], ["BOT", "USER"], ["BOT", "PARTNER"]]) {
    expect(await status(roles, "GET", `/quota/usage/${stranger}`)).toBe(200);
    expect(await status(roles, "POST", "/audit/actions", { actions: [actionOf(stranger)] })).toBe(200);
    const expected = roles.length === 1 ? 403 : 404;
    expect(await status(roles, "GET", `/admin/users/${stranger}`)).toBe(expected);
    expect(await status(roles, "GET", `/admin/quotas/${stranger}`)).toBe(expected);
  }
});

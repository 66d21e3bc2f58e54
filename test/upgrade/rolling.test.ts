import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { bucketsOf, countActions } from "../../src/audit/buckets.ts";
import { filterActions } from "../../src/audit/matching.ts";
import type { ActionFilter } from "../../src/audit/selection.ts";
import type { Database } from "../../src/postgres/database.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { runProcess, type ServerProcess, startProcess } from "../support/process.ts";
import { startRedis, type TestRedis } from "../support/redis.ts";
import { buildRelease } from "../support/release.ts";
import { callHttp, type Load, type Replica, type Setup, startLoad } from "./load.ts";

const password = "first administrator";
/** ROUTING and PLAN, and two that have other names in release 1.0. */
const methods = [
  { service: 2, methodGroup: 3 },
  { service: 11, methodGroup: 11 },
];
/** The points of the first are used up under the load. The callers ask for more slots than the second has. */
const limits = [
  { points_per_day: 150, points_per_date_window: 1500, max_concurrent_execution: 3 },
  { points_per_day: 50_000, points_per_date_window: 500_000, max_concurrent_execution: 1 },
];
const usernames = Array.from({ length: 6 }, (_none, index) => `user_${index}`);

/** The folder of the last release. */
let release: string;
let fixture: TestDatabase;
let redis: TestRedis;
let environment: Record<string, string>;
const running = new Set<ServerProcess>();

beforeAll(async () => {
  release = await buildRelease();
  fixture = await createTestDatabase({ empty: true });
  redis = await startRedis();
  environment = {
    DATABASE_URL: fixture.url,
    REDIS_URL: redis.url,
    TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
    ADMIN_PASSWORD: password,
    LOG_LEVEL: "warn",
  };
});

afterAll(async () => {
  await Promise.all([...running].map((server) => server.end()));
  await redis?.kill();
  await fixture?.drop();
});

const lastRelease = [process.execPath, "dist/main.js"];
const startLast = async () =>
  track(await startProcess(environment, lastRelease, { cwd: release, started: / at (http:\S+),/ }));
const startThis = async () => track(await startProcess(environment));

function track(server: ServerProcess): ServerProcess {
  running.add(server);
  return server;
}

async function end(server: ServerProcess): Promise<void> {
  running.delete(server);
  const code = await server.end("SIGTERM");
  expect({ code, output: server.output() }).toMatchObject({ code: 0 });
}

test("a rolling restart from the last release under load has no failed call, and no limit is exceeded", async () => {
  const servers = [await startLast(), await startLast()];
  const replicas = servers.map(({ url }): Replica => ({ url }));
  const setup = await prepare(replicas);
  const load = startLoad(setup, 12);
  await load.passed(500);
  for (const [index, replica] of replicas.entries()) {
    await end(servers[index] as ServerProcess);
    replica.url = (servers[index] = await startThis()).url;
    await load.passed(700);
    // Both servers that run now take calls.
    for (const { url } of replicas) expect(load.callsByUrl.get(url)).toBeGreaterThan(0);
  }
  await load.stop();
  console.log(summaryOf(load));

  // Each is reported, also when another one fails.
  expect.soft(load.failures).toEqual([]);
  expect(load.refusals()).toBeGreaterThan(0);
  await expectBooksAgree(load);

  // The names of this release, whichever release has written them.
  const read = async (path: string) =>
    JSON.parse(await callHttp(servers[0]?.url ?? "", { method: "GET", path, token: setup.admin }));
  expect((await read("/admin/users/planner")).roles).toEqual(["BOT"]);
  const { services } = (await read("/admin/quotas/user_0")).base;
  expect(services).toMatchObject([
    { service: "ROUTING", methods: [{ method_group: "PLAN", ...limits[0] }] },
    { service: "LONGHAUL", methods: [{ method_group: "REFINE", points_per_request: 1_000_000, ...limits[1] }] },
  ]);

  // Servers of release 1.0 refuse signed ids of leases: they end when the last of these servers is gone.
  const planner = createClient(
    QuotaService,
    createGrpcTransport({
      baseUrl: servers[1]?.url ?? "",
      interceptors: [
        (next) => (request) => {
          request.header.set("authorization", `Bearer ${setup.planner}`);
          return next(request);
        },
      ],
    }),
  );
  const lengthOfId = async () => {
    const request = { ...methods[1], username: "spare", points: 1, operationId: randomUUID() };
    const { lease } = await planner.acquireQuota(request);
    await planner.releaseLease({ leaseId: lease?.leaseId ?? "" });
    return lease?.leaseId.length;
  };
  await expect.poll(lengthOfId, { timeout: 30_000, interval: 500 }).toBe(64);
});

test("a server of the last release does not start on the migrated database", async () => {
  const { code, output } = await runProcess(environment, lastRelease, { cwd: release });
  expect(output).toContain("the database is newer than this server: it has migration 0011_quota_ranges.sql");
  expect(code).toBe(1);
});

async function prepare(replicas: readonly Replica[]): Promise<Setup> {
  const { url = "" } = replicas[0] ?? {};
  const login = async (username: string): Promise<string> =>
    JSON.parse(await callHttp(url, { method: "POST", path: "/admin/token/generation", body: { username, password } }))
      .token;
  const admin = await login("admin");
  const call = (method: string, path: string, body: object) => callHttp(url, { method, path, token: admin, body });
  for (const key of ["company_1", "company_2"]) await call("POST", "/admin/companies", { key });
  const create = (username: string, roles: readonly string[]) =>
    call("POST", "/admin/users", { username, password, company_key: "company_1", roles });
  await create("planner", ["SERVICE"]);
  const services = methods.map(({ service, methodGroup }, index) => ({
    service,
    methods: [{ method_group: methodGroup, ...limits[index] }],
  }));
  for (const username of [...usernames, "spare"]) {
    await create(username, ["USER"]);
    await call("PUT", `/admin/quotas/${username}`, { services });
  }
  return { replicas, admin, planner: await login("planner"), password, usernames, methods };
}

/** Compares the callers' view, the ledger, the statistics, the audit log, its totals and the counters. */
async function expectBooksAgree({ maxHeld }: Load): Promise<void> {
  for (const [index, { service, methodGroup }] of methods.entries()) {
    const held = usernames.map((username) => maxHeld.get(`${username} ${service} ${methodGroup}`) ?? 0);
    expect.soft(Math.max(...held)).toBeLessThanOrEqual(limits[index]?.max_concurrent_execution ?? 0);
  }
  await expect.poll(() => fixture.database("lease").where({ state: 0 }), { timeout: 10_000 }).toEqual([]);
  const { rows } = await fixture.database.raw<{ rows: { points: number }[] }>(
    "select sum(settled_points)::bigint as points from lease where state = 2 and service = 2 group by user_id, day",
  );
  expect.soft(Math.max(...rows.map(({ points }) => points))).toBeLessThanOrEqual(limits[0]?.points_per_day ?? 0);
  // The totals by which lists count actions: of all, and of those that the partners of a company see.
  const always = { from: Date.UTC(2000, 0, 1) * 1000, to: Date.UTC(2100, 0, 1) * 1000 };
  for (const visible of [{}, { visibleTo: "company_1" }, { visibleTo: "company_2" }]) {
    const selection: ActionFilter = { ...always, ...visible, user: {}, method: {} };
    // One snapshot: the servers still write the security events of the last seconds.
    const read = async (snapshot: Database) => {
      const [{ count }] = await filterActions(snapshot, selection).count();
      return { count, total: countActions(await bucketsOf(snapshot, selection)) };
    };
    const { count, total } = await fixture.database.transaction(read, { isolationLevel: "repeatable read" });
    expect(count).toBeGreaterThan(0);
    expect.soft(total).toBe(count);
  }
  const verify = ["--import", "tsx", "src/cli/tollgate.ts", "verify", "--from", "2000-01-01", "--to", "2999-12-31"];
  const { PATH = "", HOME = "" } = process.env;
  const verified = spawnSync(process.execPath, verify, { env: { PATH, HOME, ...environment }, encoding: "utf8" });
  expect(verified.stdout + verified.stderr).toMatch(/, 0 differ\n.*, 0 differ\n.*, 0 differ\n$/s);
  expect(verified.status).toBe(0);
}

function summaryOf({ calls, repeated, failures, refusals }: Load): string {
  const total = [...calls.values()].reduce((sum, count) => sum + count, 0);
  return [
    `${total} calls, ${failures.length} failed, ${refusals()} refused for a limit`,
    `${repeated.count} repeated because a server was UNAVAILABLE, at most for ${repeated.longestMs} ms`,
    [...calls].map(([kind, count]) => `${kind} ${count}`).join(", "),
  ].join("\n");
}

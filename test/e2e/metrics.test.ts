import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Health } from "#gen/grpc/health/v1/health_pb.js";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import { metricDefinitions } from "../../src/metrics/definitions.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { growthOf, type Scrape, samplesOf, scrape } from "../support/metrics.ts";
import { type ServerProcess, startProcess } from "../support/process.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../support/redis.ts";

const password = "first administrator";
const settings = {
  TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
  ADMIN_PASSWORD: password,
  METRICS_PORT: "0",
};

const noPromtool =
  spawnSync("promtool", ["--version"]).error === undefined ? "" : "skipped: install promtool (Debian: prometheus)";

/** A server process with metrics, and an administrator and a planner that call it. */
interface Fixture extends TestDatabase {
  readonly redis: TestRedis;
  readonly server: ServerProcess;
  readonly metrics: string;
  readonly token: string;
  readonly quota: Client<typeof QuotaService>;
  /** Calls the HTTP/JSON gateway as the administrator. Returns the status. */
  http(method: string, path: string, body?: object): Promise<number>;
  /** Creates a user with these limits for PLAN of ROUTING. Returns the name. */
  user(limits?: object): Promise<string>;
  /** Runs the work and returns how much each series of a metric has grown. */
  growth(name: string, work: () => Promise<unknown>): Promise<Record<string, number>>;
}

describe.skipIf(noOwnRedis !== "")(`metrics ${noOwnRedis}`, () => {
  let fixture: Fixture;
  let read: () => Promise<Scrape>;
  beforeAll(async () => {
    const database = await createTestDatabase();
    const redis = await startRedis();
    fixture = await start({ ...database, redis }, { QUOTA_FAIL_OPEN: "true", DRIFT_CHECK_SECONDS: "1" });
    read = () => scrape(fixture.metrics);
  });
  afterAll(async () => {
    await fixture.server.end();
    await fixture.redis.kill();
    await fixture.drop();
  });

  const acquisition = (username: string, fields: object = {}) => ({
    username,
    service: Service_Name.ROUTING,
    methodGroup: Method_Group.PLAN,
    points: 1,
    operationId: randomUUID() as string,
    // No lease expires during the tests, unless a test says so.
    ttlSeconds: 3600,
    ...fields,
  });
  const acquire = async (username: string, fields: object = {}) =>
    (await fixture.quota.acquireQuota(acquisition(username, fields))).lease?.leaseId ?? "";
  const check = (username: string, points = 1) =>
    fixture.quota.checkQuota({ username, service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN, points });

  test("every metric that docs/metrics.md names is served, with its type", async () => {
    const text = await (await fetch(fixture.metrics)).text();
    const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => ({ name, type }));
    expect(types).toEqual(metricDefinitions.map(({ name, type }) => ({ name, type })));
  });

  test.skipIf(noPromtool !== "")(`promtool finds nothing to improve ${noPromtool}`, async () => {
    const input = await (await fetch(fixture.metrics)).text();
    const { status, stdout, stderr } = spawnSync("promtool", ["check", "metrics"], { input, encoding: "utf8" });
    expect({ status, output: stdout + stderr }).toEqual({ status: 0, output: "" });
  });

  test("calls are counted by RPC, transport and code, and each has a duration", async () => {
    const username = await fixture.user();
    const { url } = fixture.server;
    const before = await read();
    for (let calls = 0; calls < 3; calls += 1) await check(username);
    for (const create of [createConnectTransport, createGrpcWebTransport]) {
      await planner(create({ baseUrl: url, httpVersion: "1.1" }), fixture.token).checkQuota(checkOf(username));
    }
    await check("unknown_user").catch(() => undefined);
    await createClient(QuotaService, createGrpcTransport({ baseUrl: url }))
      .checkQuota(checkOf(username))
      .catch(() => undefined);
    await createClient(Health, createGrpcTransport({ baseUrl: url })).check({});
    await fixture.http("GET", `/admin/users/${username}`);
    await fixture.http("GET", "/admin/users/unknown_user");
    await fixture.http("GET", "/no/such/path");
    await fetch(`${url}/tollgate.v1.QuotaService/NoSuch`, {
      method: "POST",
      headers: { "content-type": "application/grpc-web+proto" },
    });
    const after = await read();
    const rpc = 'rpc="tollgate.v1.QuotaService/CheckQuota"';
    expect(growthOf(before, after, "tollgate_calls_total")).toEqual({
      [`{${rpc},transport="grpc",code="OK"}`]: 3,
      [`{${rpc},transport="connect",code="OK"}`]: 1,
      [`{${rpc},transport="grpc-web",code="OK"}`]: 1,
      [`{${rpc},transport="grpc",code="NOT_FOUND"}`]: 1,
      [`{${rpc},transport="grpc",code="UNAUTHENTICATED"}`]: 1,
      '{rpc="grpc.health.v1.Health/Check",transport="grpc",code="OK"}': 1,
      '{rpc="tollgate.v1.UserService/ReadUser",transport="http",code="OK"}': 1,
      '{rpc="tollgate.v1.UserService/ReadUser",transport="http",code="NOT_FOUND"}': 1,
      '{rpc="unknown",transport="http",code="NOT_FOUND"}': 1,
      '{rpc="unknown",transport="grpc-web",code="UNIMPLEMENTED"}': 1,
    });
    expect(growthOf(before, after, "tollgate_call_duration_seconds_count")).toEqual({
      [`{${rpc},transport="grpc"}`]: 5,
      [`{${rpc},transport="connect"}`]: 1,
      [`{${rpc},transport="grpc-web"}`]: 1,
      '{rpc="grpc.health.v1.Health/Check",transport="grpc"}': 1,
      '{rpc="tollgate.v1.UserService/ReadUser",transport="http"}': 2,
    });
  });

  test("decisions are counted by kind, verdict and limit, in batches and streams too", async () => {
    const username = await fixture.user({ points_per_request: 10, points_per_day: 15, max_concurrent_execution: 3 });
    const narrow = await fixture.user({ points_per_request: 10, points_per_day: 15, points_per_date_window: 5 });
    const grown = await fixture.growth("tollgate_decisions_total", async () => {
      await acquire(username);
      await fixture.quota.batchAcquireQuota({
        requests: [acquisition(username), acquisition(username, { points: 11 }), acquisition("unknown_user")],
      });
      async function* requests() {
        yield acquisition(username, { points: 2 });
        yield acquisition(username);
      }
      for await (const _decision of fixture.quota.acquireQuotas(requests()));
      await check(narrow, 4);
      await check(narrow, 6).catch(() => undefined);
      await check(narrow, 16).catch(() => undefined);
      await fixture.quota.checkQuota({ ...checkOf(narrow), methodGroup: Method_Group.REFINE }).catch(() => undefined);
    });
    const refused = (kind: string, limit: string, reason: string) =>
      `{kind="${kind}",verdict="refused",limit="${limit}",reason="${reason}"}`;
    expect(grown).toEqual({
      '{kind="acquire",verdict="granted",limit="none",reason="none"}': 3,
      [refused("acquire", "points_per_request", "REQUEST_POINTS_EXCEEDED")]: 1,
      [refused("acquire", "none", "USER_NOT_FOUND")]: 1,
      [refused("acquire", "max_concurrent_execution", "CONCURRENCY_LIMIT_EXCEEDED")]: 1,
      '{kind="check",verdict="granted",limit="none",reason="none"}': 1,
      [refused("check", "points_per_date_window", "DATE_WINDOW_POINTS_EXCEEDED")]: 1,
      [refused("check", "points_per_request", "REQUEST_POINTS_EXCEEDED")]: 1,
      [refused("check", "none", "NO_QUOTA")]: 1,
    });
    const daily = await fixture.user({ points_per_day: 1 });
    expect(
      await fixture.growth("tollgate_decisions_total", () => acquire(daily, { points: 2 }).catch(() => 0)),
    ).toEqual({
      [refused("acquire", "points_per_day", "DAILY_POINTS_EXCEEDED")]: 1,
    });
  });

  test("leases are live, expired or ended", async () => {
    const username = await fixture.user();
    const leases = async () => samplesOf(await read(), "tollgate_leases");
    // Leases of earlier tests are written, so that only those of this test change the counts.
    await expect.poll(async () => samplesOf(await read(), "tollgate_queue_entries")).toEqual({});
    const [live, expired] = await Promise.all(
      [">", "<="].map(async (operator) => {
        const rows = await fixture.database("lease").where({ state: 0 }).whereRaw(`expire_at ${operator} now()`);
        return rows.length;
      }),
    );
    if (live === undefined || expired === undefined) throw new Error("the counts of leases are missing");
    const ends = await fixture.growth("tollgate_lease_ends_total", async () => {
      const held = await Promise.all(Array.from({ length: 6 }, () => acquire(username)));
      await acquire(username, { ttlSeconds: 1 });
      const late = await acquire(username, { ttlSeconds: 1 });
      // The ledger has a grant within 50 ms, and the gauge is read at most once a second.
      await expect.poll(leases).toEqual({ '{state="live"}': live + 6, '{state="expired"}': expired + 2 });
      await fixture.quota.settleLease({ leaseId: late, points: 1 });
      await fixture.quota.settleLease({ leaseId: held[0] ?? "", points: 1 });
      // A repeated settlement ends nothing.
      await fixture.quota.settleLease({ leaseId: held[0] ?? "", points: 1 });
      await fixture.quota.releaseLease({ leaseId: held[1] ?? "" });
      await fixture.quota.releaseLease({ leaseId: held[2] ?? "" });
      await fixture.http("POST", `/quota/leases/${encodeURIComponent(held[3] ?? "")}:forceRelease`, {});
      await expect.poll(leases).toEqual({ '{state="live"}': live + 2, '{state="expired"}': expired + 1 });
    });
    expect(ends).toEqual({
      '{end="settled"}': 1,
      '{end="settled_late"}': 1,
      '{end="released"}': 2,
      '{end="force_released"}': 1,
    });
  });

  test("leases have no value while PostgreSQL does not answer, and a scrape does not wait for it", async () => {
    const isShown = async () => (await read()).has('tollgate_leases{state="live"}');
    await expect.poll(isShown).toBe(true);
    const lock = await fixture.database.transaction();
    await lock.raw("lock table lease in access exclusive mode");
    await expect.poll(isShown).toBe(false);
    expect((await read()).get("tollgate_redis_connected")).toBe(1);
    await lock.rollback();
    await expect.poll(isShown).toBe(true);
  });

  test("the ledger's queue has a depth, an age, and batches", async () => {
    const username = await fixture.user();
    await acquire(username);
    await expect.poll(async () => samplesOf(await read(), "tollgate_queue_entries")).toEqual({});
    const before = await read();
    const lock = await fixture.database.transaction();
    await lock.raw("lock table lease in exclusive mode");
    await Promise.all(Array.from({ length: 7 }, () => acquire(username)));
    const blocked = await read();
    expect(samplesOf(blocked, "tollgate_queue_entries")).toEqual({ '{queue="ledger"}': 7 });
    const age = async () => samplesOf(await read(), "tollgate_queue_oldest_entry_age_seconds")['{queue="ledger"}'] ?? 0;
    await expect.poll(age).toBeGreaterThan(0.2);
    await lock.rollback();
    await expect.poll(async () => samplesOf(await read(), "tollgate_queue_entries")).toEqual({});
    const after = await read();
    expect(samplesOf(after, "tollgate_queue_oldest_entry_age_seconds")).toEqual({});
    expect(growthOf(before, after, "tollgate_group_commit_entries_sum")).toEqual({ '{queue="ledger"}': 7 });
    const batches = growthOf(before, after, "tollgate_group_commit_entries_count");
    expect(growthOf(before, after, "tollgate_group_commit_duration_seconds_count")).toEqual(batches);
    expect(growthOf(before, after, "tollgate_group_commit_duration_seconds_sum")['{queue="ledger"}']).toBeGreaterThan(
      0.1,
    );
    expect(growthOf(before, after, "tollgate_group_commit_dropped_entries_total")).toEqual({});
  });

  test("primes are counted when Redis is emptied, restores when it lacks a lease", async () => {
    const usernames = await Promise.all([fixture.user(), fixture.user(), fixture.user()]);
    const leases = await Promise.all(usernames.map((username) => acquire(username)));
    await fixture.redis.flush();
    const primed = await fixture.growth("tollgate_meter_primes_total", () =>
      Promise.all(usernames.map((name) => check(name))),
    );
    expect(primed).toEqual({ "": 3 });
    const { operation_id: operation, user_id: id } = await fixture
      .database("lease")
      .where({ username: usernames[0] })
      .first("operation_id", "user_id");
    const key = fixture.redis.keys().find((name) => name.includes(`{${id}}`) && name.endsWith(":state")) ?? "";
    fixture.redis.send("hdel", key, `l${operation}`);
    fixture.redis.send("zrem", key.replace(/:state$/, ":leases"), operation);
    const settle = () => fixture.quota.settleLease({ leaseId: leases[0] ?? "", points: 1 });
    expect(await fixture.growth("tollgate_meter_restores_total", settle)).toEqual({ "": 1 });
    // The points of the removed lease are still reserved.
    await fixture.redis.flush();
  });

  test("drift between counters and ledger is found, logged once, and gone when it is mended", async () => {
    const username = await fixture.user();
    const leaseId = await acquire(username);
    await fixture.quota.settleLease({ leaseId, points: 1 });
    const drifting = async () => samplesOf(await read(), "tollgate_drift_meters");
    await expect.poll(drifting).toEqual({});
    const { id } = await fixture.database("user_account").where({ username }).first("id");
    const key = fixture.redis.keys().find((name) => name.includes(`{${id}}`) && name.endsWith(":state")) ?? "";
    fixture.redis.addDayUsed(key, 4);
    await expect.poll(drifting, { timeout: 30_000 }).toEqual({ "": 1 });
    const differs = /used points of the day: 5, the ledger 1.*counters differ from the ledger/g;
    await expect.poll(() => fixture.server.output().match(differs)).toHaveLength(1);
    const compared = (await read()).get("tollgate_drift_compared_meters_total");
    expect(compared).toBeGreaterThan(0);
    fixture.redis.addDayUsed(key, -4);
    await expect.poll(drifting, { timeout: 30_000 }).toEqual({});
    await expect.poll(() => fixture.server.output()).toMatch(/counters agree with the ledger again/);
  });

  test("caches count hits and misses, and the counters their round trips to Redis", async () => {
    const username = await fixture.user();
    const before = await read();
    for (let calls = 0; calls < 4; calls += 1) await check(username);
    const after = await read();
    expect(growthOf(before, after, "tollgate_cache_lookups_total")).toMatchObject({
      '{cache="users",result="miss"}': 1,
      '{cache="users",result="hit"}': 3,
    });
    // The first decision finds no counters: it is sent again after one round trip of the prime.
    expect(growthOf(before, after, "tollgate_redis_round_trip_duration_seconds_count")).toEqual({ "": 6 });
    expect(after.get("tollgate_redis_connected")).toBe(1);
  });

  test("PostgreSQL has round trips, errors and pools", async () => {
    const username = await fixture.user();
    const work = async () => {
      for (let calls = 0; calls < 5; calls += 1) await fixture.http("GET", `/admin/quotas/${username}`);
    };
    const grown = await fixture.growth("tollgate_postgres_round_trip_duration_seconds_count", work);
    expect(grown['{pool="calls"}']).toBeGreaterThanOrEqual(5);
    const values = await read();
    const connections = samplesOf(values, "tollgate_postgres_pool_connections");
    expect(connections).toMatchObject({ '{pool="calls",state="max"}': 10, '{pool="public",state="max"}': 4 });
    expect(connections['{pool="calls",state="free"}']).toBeGreaterThan(0);
    expect(samplesOf(values, "tollgate_postgres_pool_waiting")).toEqual({});
    const company = () => fixture.http("POST", "/admin/companies", { key: "company_1" });
    expect(await company()).toBe(409);
    expect(await fixture.growth("tollgate_postgres_errors_total", company)).toEqual({ '{pool="calls"}': 1 });
  });

  test("uploads and conversions are counted by outcome", async () => {
    const username = await fixture.user();
    const tracecode = randomUUID();
    const text = JSON.stringify([{ a: 1 }]);
    const put = (body: string, type = "application/json") =>
      fetch(`${fixture.server.url}/admin/data/${tracecode}?username=${username}&data_flow_type=INPUT`, {
        method: "PUT",
        headers: { authorization: `Bearer ${fixture.token}`, "content-type": type },
        body,
      }).then(({ status }) => status);
    const before = await read();
    const statuses = [await put(text), await put(text), await put("[]")];
    expect(statuses).toEqual([200, 200, 409]);
    const path = `/admin/data/${tracecode}?data_flow_type=INPUT&data_flow_convert=XLSX`;
    expect(await fixture.http("GET", path)).toBe(200);
    const after = await read();
    expect(growthOf(before, after, "tollgate_uploads_total")).toEqual({
      '{outcome="stored"}': 1,
      '{outcome="repeated"}': 1,
      '{outcome="failed"}': 1,
    });
    expect(growthOf(before, after, "tollgate_upload_bytes_total")).toEqual({ "": text.length });
    expect(growthOf(before, after, "tollgate_conversions_total")).toEqual({ '{from="json",outcome="converted"}': 1 });
    expect(growthOf(before, after, "tollgate_conversion_duration_seconds_count")).toEqual({ '{from="json"}': 1 });
  });

  test("the process has its delay, collections, processor time and memory", async () => {
    const values = await read();
    for (const percentile of ["50", "99", "100"]) {
      expect(values.get(`tollgate_event_loop_delay_seconds{percentile="${percentile}"}`)).toBeGreaterThanOrEqual(0);
    }
    expect(samplesOf(values, "tollgate_gc_duration_seconds_count")['{kind="minor"}']).toBeGreaterThan(0);
    for (const name of ["tollgate_event_loop_active_seconds_total", "process_cpu_seconds_total", "process_open_fds"]) {
      expect(values.get(name)).toBeGreaterThan(0);
    }
    const resident =
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${fixture.server.process.pid}/status`, "utf8"))?.[1]) * 1024;
    expect(values.get("process_resident_memory_bytes")).toBeGreaterThan(resident / 2);
    expect(values.get("process_resident_memory_bytes")).toBeLessThan(resident * 2);
    expect(values.get("process_start_time_seconds")).toBeGreaterThan(Date.now() / 1000 - 3600);
  });

  test("no caller can make a series: random paths, methods, users and tracecodes", async () => {
    const random = () => `x${randomUUID().replaceAll("-", "")}`;
    const callAll = async () => {
      const name = random();
      await fixture.http("GET", `/${name}`);
      await fixture.http("GET", `/admin/users/${name}`);
      await fetch(`${fixture.server.url}/tollgate.v1.QuotaService/${name}`, {
        method: "POST",
        headers: { "content-type": "application/grpc" },
      });
      await fetch(`${fixture.server.url}/admin/users`, { method: "PROPFIND" });
      await check(name).catch(() => undefined);
      await fixture.quota
        .acquireQuota(acquisition(name), { headers: { tracecode: randomUUID() } })
        .catch(() => undefined);
      return name;
    };
    await callAll();
    const before = await read();
    const names = await Promise.all(Array.from({ length: 40 }, callAll));
    const text = await (await fetch(fixture.metrics)).text();
    // A process may meet another kind of garbage collection meanwhile, but that set is closed as well.
    expect([...(await read()).keys()]).toEqual([...before.keys()]);
    expect(names.filter((name) => text.includes(name))).toEqual([]);
    expect(text).not.toMatch(/[\da-f]{8}-[\da-f]{4}-/);
  });

  test.each([
    ["GET", "/", 404],
    ["GET", "/metrics/", 404],
    ["GET", "/metrics?name=x", 404],
    ["GET", "/admin/system/check", 404],
    ["POST", "/tollgate.v1.QuotaService/CheckQuota", 404],
    ["POST", "/metrics", 405],
    ["HEAD", "/metrics", 405],
  ])("the port of metrics answers %s %s with %i and without a body", async (method, path, status) => {
    const response = await fetch(new URL(path, fixture.metrics), { method });
    expect(response.status).toBe(status);
    expect(await response.text()).toBe("");
    expect((await fetch(`${fixture.server.url}/metrics`)).status).toBe(404);
  });

  test("fail-open shows while Redis is away, and the generation rises when it is back", async () => {
    const username = await fixture.user();
    await acquire(username);
    const before = await read();
    await fixture.redis.kill();
    const away = async () => {
      await acquire(username).catch(() => undefined);
      const values = await read();
      return [values.get("tollgate_fail_open"), values.get("tollgate_redis_connected")];
    };
    await expect.poll(away).toEqual([1, 0]);
    const degraded = await fixture.growth("tollgate_degraded_grants_total", () => acquire(username));
    expect(degraded).toEqual({ "": 1 });
    expect(growthOf(before, await read(), "tollgate_redis_errors_total")[""]).toBeGreaterThan(0);
    await fixture.redis.restart();
    await expect.poll(async () => (await read()).get("tollgate_fail_open"), { timeout: 20_000 }).toBe(0);
    const after = await read();
    expect(growthOf(before, after, "tollgate_meter_generation")).toEqual({ "": 1 });
    expect(after.get("tollgate_redis_connected")).toBe(1);
  });

  test("without METRICS_PORT the process listens on its port alone", async () => {
    const off = await startProcess({
      ...settings,
      METRICS_PORT: "",
      DATABASE_URL: fixture.url,
      REDIS_URL: fixture.redis.url,
    });
    expect(metricsOf(off)).toBe("");
    expect(listeningSockets(off.process.pid)).toBe(1);
    expect(listeningSockets(fixture.server.process.pid)).toBe(2);
    await off.end();
  });

  test("with WORKERS=2 the parent process sums the workers, and counters never fall", {
    timeout: 180_000,
  }, async () => {
    const server = await startProcess({
      ...settings,
      WORKERS: "2",
      DATABASE_URL: fixture.url,
      REDIS_URL: fixture.redis.url,
    });
    const metrics = metricsOf(server);
    const name = 'tollgate_calls_total{rpc="tollgate.v1.SystemService/Check",transport="http",code="OK"}';
    const count = async () => (await scrape(metrics)).get(name) ?? 0;
    for (let calls = 0; calls < 10; calls += 1) {
      await fetch(`${server.url}/admin/system/check`, { headers: { connection: "close" } });
    }
    const values = await scrape(metrics);
    expect(values.get(name)).toBe(10);
    expect(values.get('tollgate_postgres_pool_connections{pool="calls",state="max"}')).toBe(20);
    // Each worker connects and reads the generation by itself.
    await expect.poll(async () => (await scrape(metrics)).get("tollgate_redis_connected")).toBe(1);
    const [worker = 0] = readFileSync(`/proc/${server.process.pid}/task/${server.process.pid}/children`, "utf8")
      .split(" ")
      .filter(Boolean)
      .map(Number);
    process.kill(worker, "SIGKILL");
    await expect.poll(() => server.output()).toMatch(/worker exited; restarting/);
    expect(await count()).toBe(10);
    const connections = async () =>
      (await scrape(metrics)).get('tollgate_postgres_pool_connections{pool="calls",state="max"}');
    await expect.poll(connections, { timeout: 60_000 }).toBe(20);
    expect(await count()).toBe(10);
    expect(await server.end()).toBe(0);
  });
});

/** The check that an idle user passes. */
function checkOf(username: string) {
  return { username, service: Service_Name.ROUTING, methodGroup: Method_Group.PLAN, points: 1 };
}

function planner(transport: Transport, token: string) {
  const headers = { authorization: `Bearer ${token}` };
  const client = createClient(QuotaService, transport);
  return { checkQuota: (request: ReturnType<typeof checkOf>) => client.checkQuota(request, { headers }) };
}

/** Returns the address of the metrics in the log of a server, or "". */
function metricsOf(server: ServerProcess): string {
  return /"metrics":"(http[^"]+)"/.exec(server.output())?.[1] ?? "";
}

async function start(
  parts: TestDatabase & { readonly redis: TestRedis },
  more: Record<string, string>,
): Promise<Fixture> {
  const server = await startProcess({
    ...settings,
    DATABASE_URL: parts.url,
    REDIS_URL: parts.redis.url,
    ...more,
  });
  const metrics = metricsOf(server);
  const call = (method: string, path: string, body: object | undefined, token: string) =>
    fetch(`${server.url}${path}`, {
      method,
      headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      ...(body && { body: JSON.stringify(body) }),
    });
  const login = await fetch(`${server.url}/admin/token/generation`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username: "admin", password }),
  });
  const admin = ((await login.json()) as { token: string }).token;
  const http: Fixture["http"] = async (method, path, body) => {
    const response = await call(method, path, body, admin);
    await response.arrayBuffer();
    return response.status;
  };
  await http("POST", "/admin/companies", { key: "company_1" });
  const bot = { username: "planner", password, company_key: "company_1", roles: ["BOT"] };
  await http("POST", "/admin/users", bot);
  const token = (
    (await (await call("POST", "/admin/token/generation", { username: "planner", password }, "")).json()) as {
      token: string;
    }
  ).token;
  const transport = createGrpcTransport({
    baseUrl: server.url,
    interceptors: [
      (next) => (request) => {
        request.header.set("authorization", `Bearer ${token}`);
        return next(request);
      },
    ],
  });
  let users = 0;
  return {
    ...parts,
    server,
    metrics,
    token,
    quota: createClient(QuotaService, transport),
    http,
    async user(limits = {}) {
      const username = `user_${(users += 1)}`;
      await http("POST", "/admin/users", { username, password, company_key: "company_1", roles: [] });
      const services = [{ service: "ROUTING", methods: [{ method_group: "PLAN", ...limits }] }];
      expect(await http("PUT", `/admin/quotas/${username}`, { services })).toBeLessThan(300);
      return username;
    },
    async growth(name, work) {
      const before = await scrape(metrics);
      await work();
      return growthOf(before, await scrape(metrics), name);
    },
  };
}

/** The TCP sockets on which a process listens. */
function listeningSockets(pid: number | undefined): number {
  const tables = ["tcp", "tcp6"].map((name) => readFileSync(`/proc/${pid}/net/${name}`, "utf8"));
  const listening = new Set(
    tables.flatMap((table) =>
      table
        .split("\n")
        .map((line) => line.trim().split(/\s+/))
        .filter((fields) => fields[3] === "0A")
        .map((fields) => fields[9]),
    ),
  );
  const sockets = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
    } catch {
      return undefined;
    }
  });
  return sockets.filter((inode) => inode !== undefined && listening.has(inode)).length;
}

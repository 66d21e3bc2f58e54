import { randomUUID } from "node:crypto";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Health } from "#gen/grpc/health/v1/health_pb.js";
import { UserService } from "#gen/tollgate/v1/user_pb.js";
import type { Json } from "../support/app.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { runProcess, type ServerProcess, startProcess } from "../support/process.ts";
import { addressOf, startProxy } from "../support/proxy.ts";
import { noOwnRedis, startRedis } from "../support/redis.ts";

const password = "first administrator";
const keys = { TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough", ADMIN_PASSWORD: password };
const pollLimits = { timeout: 20_000 };

const linesOf = (server: ServerProcess): Json[] =>
  server
    .output()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
const messagesOf = (server: ServerProcess, pattern: RegExp): string[] =>
  linesOf(server)
    .map(({ msg }) => msg)
    .filter((msg) => pattern.test(msg));

/** Returns the one line of a request, once it is written. */
async function lineOf(server: ServerProcess, tracecode: string): Promise<Json> {
  const ofRequest = () => linesOf(server).filter((line) => line.tracecode === tracecode);
  await expect.poll(() => ofRequest().length, pollLimits).toBe(1);
  return ofRequest()[0];
}

async function login({ url }: ServerProcess, body: Json, headers: Record<string, string> = {}): Promise<Json> {
  const response = await fetch(`${url}/admin/token/generation`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  return response.json();
}

describe("the lines of a server", () => {
  let fixture: TestDatabase;
  let server: ServerProcess;
  let token: string;
  beforeAll(async () => {
    fixture = await createTestDatabase();
    server = await startProcess({ ...keys, DATABASE_URL: fixture.url, LOG_LEVEL: "debug" });
    token = (await login(server, { username: "admin", password })).token;
  });
  afterAll(() => fixture.drop());

  const get = (path: string, tracecode: string, method = "GET") =>
    fetch(server.url + path, { method, headers: { authorization: `Bearer ${token}`, tracecode } });

  test("a call over HTTP/JSON has its caller, its route, its status and the bytes of its body", async () => {
    const tracecode = randomUUID();
    const body = await (await get("/admin/users/admin?", tracecode)).text();
    expect(await lineOf(server, tracecode)).toMatchObject({
      level: 30,
      msg: "call",
      address: "127.0.0.1",
      method: "GET",
      route: "/admin/users/{username}",
      client: "administration_|_admin",
      operation: "read_user",
      protocol: "http",
      outcome: "ok",
      status: 200,
      bytes: body.length,
      durationMs: expect.any(Number),
    });
  });

  test.each([
    ["grpc", (baseUrl: string) => createGrpcTransport({ baseUrl }), undefined],
    ["grpc-web", (baseUrl: string) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }), undefined],
    ["connect", (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: "2" }), 404],
  ])("a call over %s has its RPC and its code", async (protocol, transportTo, status) => {
    const client: Client<typeof UserService> = createClient(UserService, transportTo(server.url));
    const call = async (username: string, tracecode: string) =>
      client.readUser({ username }, { headers: { authorization: `Bearer ${token}`, tracecode } });
    const [found, missing] = [randomUUID(), randomUUID()];
    await call("admin", found);
    await expect(call("missing", missing)).rejects.toThrow();
    const route = "/tollgate.v1.UserService/ReadUser";
    const same = { method: "POST", route, protocol, address: "127.0.0.1" };
    const okLine = await lineOf(server, found);
    expect(okLine).toMatchObject({ ...same, msg: "call", outcome: "ok", bytes: expect.any(Number) });
    expect(okLine.bytes).toBeGreaterThan(20);
    const refused = await lineOf(server, missing);
    expect(refused).toMatchObject({ ...same, msg: "call refused", outcome: "NotFound", reason: "USER_NOT_FOUND" });
    expect(refused.status).toBe(status);
  });

  test("a request without an operation, and one whose caller leaves, have one line", async () => {
    const [nowhere, left] = [randomUUID(), randomUUID()];
    await get("/nowhere", nowhere);
    expect(await lineOf(server, nowhere)).toMatchObject({
      msg: "request refused",
      reason: "NO_SUCH_PATH",
      status: 404,
    });
    const lock = await fixture.database.transaction();
    await lock.raw("lock table company in access exclusive mode");
    const headers = { authorization: `Bearer ${token}`, tracecode: left };
    const signal = AbortSignal.timeout(300);
    await expect(fetch(`${server.url}/admin/companies/administration`, { headers, signal })).rejects.toThrow();
    await lock.rollback();
    const line = await lineOf(server, left);
    expect(line).toMatchObject({ outcome: "Canceled", reason: "CALLER_GONE", route: "/admin/companies/{key}" });
  });

  test("a failed login has the name of the user, but not a name that may be a password", async () => {
    const [known, unknown] = [randomUUID(), randomUUID()];
    await login(server, { username: "admin", password: "not_the_password" }, { tracecode: known });
    await login(server, { username: "canary_hunter2", password: "not_the_password" }, { tracecode: unknown });
    expect(await lineOf(server, known)).toMatchObject({ operation: "create_token", loginUser: "admin", status: 401 });
    expect((await lineOf(server, unknown)).loginUser).toBeUndefined();
    expect(server.output()).not.toMatch(/canary_hunter2|not_the_password/);
  });

  test("probes are at debug", async () => {
    const paths = ["/livez", "/readyz", "/admin/system/check"];
    const codes = paths.map(() => randomUUID());
    for (const [index, path] of paths.entries()) await get(path, codes[index] ?? "");
    for (const code of codes) expect(await lineOf(server, code)).toMatchObject({ level: 20, status: 200 });
    const health = randomUUID();
    await createClient(Health, createGrpcTransport({ baseUrl: server.url })).check(
      {},
      { headers: { tracecode: health } },
    );
    expect(await lineOf(server, health)).toMatchObject({ level: 20, route: "/grpc.health.v1.Health/Check" });
  });

  test("the start and the stop are lines too", async () => {
    expect(await server.end()).toBe(0);
    expect(linesOf(server)[0]).toMatchObject({ msg: "server starting", level: 30, node: process.version, workers: 1 });
    expect(messagesOf(server, /^server /)).toEqual([
      "server starting",
      "server started",
      "server draining",
      "server stopped",
    ]);
    expect(linesOf(server).at(-2)).toMatchObject({ msg: "server draining", cause: "SIGTERM" });
    expect(linesOf(server).at(-1)).toMatchObject({ msg: "server stopped", exitCode: 0 });
  });
});

test("LOG_LEVEL=warn leaves out calls and refusals, and keeps the start and the stop", async () => {
  const { url, drop } = await createTestDatabase();
  const server = await startProcess({ ...keys, DATABASE_URL: url, LOG_LEVEL: "warn" });
  await login(server, { username: "admin", password });
  await login(server, { username: "admin", password: "another one" });
  expect(await server.end()).toBe(0);
  const starts = ["server starting", "first administrator created", "server started"];
  expect(messagesOf(server, /./)).toEqual([...starts, "server draining", "server stopped"]);
  await drop();
});

test("LOG_FORMAT=pretty writes readable lines outside a terminal too", async () => {
  const { code, output } = await runProcess({
    ...keys,
    DATABASE_URL: "postgres://127.0.0.1:1/no",
    LOG_FORMAT: "pretty",
  });
  expect(code).toBe(1);
  expect(output).toMatch(/^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: server starting \{"node":"v[^\n]*\}\n/);
});

describe.skipIf(noOwnRedis !== "")(`lost servers ${noOwnRedis}`, () => {
  test("a lost PostgreSQL and a lost Redis are one line each when they go and when they are back", async () => {
    const { url, drop } = await createTestDatabase();
    const redis = await startRedis();
    const [toDatabase, toRedis] = [await startProxy(addressOf(url)), await startProxy(addressOf(redis.url))];
    const settings = { DATABASE_URL: toDatabase.url(url), REDIS_URL: toRedis.url(redis.url), WORKERS: "1" };
    const server = await startProcess({ ...keys, ...settings });
    const { token } = await login(server, { username: "admin", password });
    const read = async () => {
      const headers = { authorization: `Bearer ${token}` };
      return (await fetch(`${server.url}/admin/companies/administration`, { headers })).status;
    };
    await toDatabase.refuse();
    await toRedis.refuse();
    // A failed login is a security event that cannot be written.
    await login(server, { username: "admin", password: "another one" });
    await expect.poll(() => messagesOf(server, /connection lost$/).toSorted(), pollLimits).toHaveLength(2);
    expect(await read()).toBe(503);
    // Long enough for several attempts to connect again.
    await new Promise((resolve) => setTimeout(resolve, 5000));
    await toDatabase.restore();
    await toRedis.restore();
    await expect.poll(() => messagesOf(server, /connection restored$/), pollLimits).toHaveLength(2);
    await expect.poll(read, pollLimits).toBe(200);
    expect(messagesOf(server, /connection (lost|restored)$/).toSorted()).toEqual([
      "postgresql connection lost",
      "postgresql connection restored",
      "redis connection lost",
      "redis connection restored",
    ]);
    const failed = linesOf(server).find(({ msg }) => msg === "call failed");
    expect(failed).toMatchObject({ level: 40, reason: "DATABASE_UNAVAILABLE", cause: expect.any(String) });
    expect(failed.err).toBeUndefined();
    // Every other warning of the outage is written once.
    const warnings = linesOf(server)
      .filter(({ level, msg }) => level >= 40 && msg !== "call failed")
      .map(({ msg, table = "" }) => `${msg} ${table}`);
    expect(warnings).toEqual([...new Set(warnings)]);
    expect(await server.end()).toBe(0);
    await toDatabase.close();
    await toRedis.close();
    await redis.kill();
    await drop();
  });

  test("the log has no password of Redis", async () => {
    const { url, drop } = await createTestDatabase();
    const redis = await startRedis();
    const secret = "canary_hunter2";
    const { port } = addressOf(redis.url);
    const server = await startProcess({
      ...keys,
      DATABASE_URL: url,
      REDIS_URL: `redis://someone:${secret}@127.0.0.1:${port}`,
    });
    await expect.poll(() => messagesOf(server, /^redis connection lost$/), pollLimits).toHaveLength(1);
    await server.end();
    expect(server.output()).not.toContain(secret);
    await redis.kill();
    await drop();
  });
});

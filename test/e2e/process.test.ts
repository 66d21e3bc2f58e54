import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SystemService } from "#gen/tollgate/v1/system_pb.js";
import type { Json } from "../support/app.ts";
import { createTestDatabase } from "../support/database.ts";
import { runProcess, type ServerProcess, startProcess } from "../support/process.ts";
import { startRedis } from "../support/redis.ts";

const adminPassword = "first administrator";
const keys = { TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough", ADMIN_PASSWORD: adminPassword };

const post = async (url: string, body: Json, token?: string) => {
  const headers = {
    "content-type": "application/json",
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
  };
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  return { status: response.status, body: JSON.parse(await response.text()) };
};
const login = async ({ url }: ServerProcess, password: string): Promise<string> =>
  (await post(`${url}/admin/token/generation`, { username: "admin", password })).body.token;
/** Reads the first password from the file that the log names. */
const firstPassword = async (folder: string): Promise<string> =>
  (await readFile(join(folder, "admin.password"), "utf8")).trim();
/** Returns what is printed beside the lines of the log. */
const withoutLog = (output: string): string =>
  output
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("{"))
    .join("\n");
const isValid = async ({ url }: ServerProcess, token: string): Promise<boolean> =>
  (await post(`${url}/admin/token/validation`, { token })).body.valid;

describe("on the embedded PostgreSQL", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tollgate-process-"));
    await chmod(folder, 0o711);
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("the first start creates an administrator, the next start keeps data and key, and SIGTERM exits with 0", async () => {
    const first = await startProcess({ DATA_DIR: folder });
    const password = await firstPassword(folder);
    const token = await login(first, password);
    expect(await first.end("SIGTERM")).toBe(0);
    expect((await stat(join(folder, "token.key"))).mode & 0o777).toBe(0o600);
    expect((await stat(join(folder, "admin.password"))).mode & 0o777).toBe(0o600);
    await expect.poll(() => first.output()).toContain(`"passwordFile":"${join(folder, "admin.password")}"`);
    expect(first.output()).not.toContain(password);

    const second = await startProcess({ DATA_DIR: folder });
    expect(second.output()).not.toContain("password");
    expect(await isValid(second, token)).toBe(true);
    expect(await isValid(second, await login(second, password))).toBe(true);
    expect(await second.end("SIGINT")).toBe(0);
  });

  test("in a terminal the output is a readable log and nothing else", async () => {
    const server = [process.execPath, "--import", "tsx", "src/main.ts"].join(" ");
    const terminal = spawn("script", ["-qec", server, "/dev/null"], {
      env: { PATH: process.env.PATH, HOME: process.env.HOME, DATA_DIR: folder, HOST: "127.0.0.1", PORT: "0" },
    });
    const printed = text(terminal.stdout);
    await new Promise<void>((done) =>
      terminal.stdout.on("data", (chunk) => String(chunk).includes("server started") && done()),
    );
    terminal.stdin.write("\x03");
    const color = new RegExp(`${String.fromCharCode(27)}\\[\\d+m`, "g");
    const lines = (await printed).replaceAll(color, "").replace("^C", "").trim().split("\r\n");
    for (const line of lines) expect(line).toMatch(/^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: [a-z ]+ \{.*\}$/);
    expect(lines.at(-3)).toContain('server started {"url":"http://127.0.0.1:');
    expect(lines.at(-1)).toContain('server stopped {"exitCode":0}');
  });

  test("the data folder keeps the first password when the first start fails later", async () => {
    const takenFolder = await mkdtemp(join(tmpdir(), "tollgate-taken-"));
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as AddressInfo;
    const { code } = await runProcess({ DATA_DIR: takenFolder, PORT: String(port) });
    taken.close();
    const password = await firstPassword(takenFolder);
    const next = await startProcess({ DATA_DIR: takenFolder });
    expect([code, await isValid(next, await login(next, password))]).toEqual([1, true]);
    expect(await next.end()).toBe(0);
    await rm(takenFolder, { recursive: true });
  });

  test("a second server on the same folder does not start, and the first one keeps running", async () => {
    const first = await startProcess({ DATA_DIR: folder });
    const { code, output } = await runProcess({ DATA_DIR: folder });
    expect(code).toBe(1);
    expect(output.trim()).toMatch(new RegExp(`is in use by process ${first.process.pid}: [^\\n]*$`));
    expect((await fetch(`${first.url}/admin/system/check`)).status).toBe(200);
    expect(await first.end()).toBe(0);
  });

  test("a killed server leaves no lock behind", async () => {
    const first = await startProcess({ DATA_DIR: folder });
    await first.end("SIGKILL");
    const second = await startProcess({ DATA_DIR: folder });
    expect((await fetch(`${second.url}/admin/system/check`)).status).toBe(200);
    expect(await second.end()).toBe(0);
  });

  test("a server whose PostgreSQL dies logs it and exits", async () => {
    const server = await startProcess({ DATA_DIR: folder });
    const [pid] = (await readFile(join(folder, "postgres", "postmaster.pid"), "utf8")).split("\n");
    process.kill(Number(pid), "SIGQUIT");
    await new Promise((done) => server.process.once("exit", done));
    expect(server.process.exitCode).toBe(1);
    await expect.poll(() => server.output()).toContain("the embedded PostgreSQL has ended");
  });
});

test("a bad setting stops the start with one line", async () => {
  const { code, output } = await runProcess({ PORT: "eighty" });
  expect([code, output.trim().split("\n").length]).toEqual([1, 1]);
  expect(output).toMatch(/^PORT: /);
});

test("with a certificate all transports use TLS, HTTP/1.1 and HTTP/2 on one port", async () => {
  const { url, drop } = await createTestDatabase();
  const [cert, key] = ["test/support/tls/cert.pem", "test/support/tls/key.pem"];
  const server = await startProcess({ ...keys, DATABASE_URL: url, TLS_CERT: cert, TLS_KEY: key });
  const nodeOptions = { rejectUnauthorized: false };
  for (const transport of [
    createConnectTransport({ baseUrl: server.url, httpVersion: "1.1", nodeOptions }),
    createConnectTransport({ baseUrl: server.url, httpVersion: "2", nodeOptions }),
    createGrpcTransport({ baseUrl: server.url, nodeOptions }),
  ]) {
    expect((await createClient(SystemService, transport).check({})).health).toBe(1);
  }
  expect(server.url).toMatch(/^https:/);
  expect(await server.end()).toBe(0);
  await drop();
});

test("a database that does not answer stops the start with one line", async () => {
  const { code, output } = await runProcess({
    ...keys,
    DATABASE_URL: "postgres://unknown_user:secret@127.0.0.1:1/none",
  });
  expect(code).toBe(1);
  expect(withoutLog(output)).toMatch(/^DATABASE_URL: [^\n]+$/);
  expect(output).not.toContain("secret");
});

test("servers that start concurrently on an empty database migrate it once, and accept each other's tokens", async () => {
  const { url, database, drop } = await createTestDatabase({ empty: true });
  const redis = await startRedis();
  const settings = { ...keys, DATABASE_URL: url, REDIS_URL: redis.url };
  const servers = await Promise.all([1, 2, 3].map(() => startProcess(settings)));
  expect(await database("user_account").count({ users: "*" })).toEqual([{ users: 1 }]);
  const [first, second] = servers as [ServerProcess, ServerProcess];
  expect(await isValid(second, await login(first, adminPassword))).toBe(true);
  expect(await Promise.all(servers.map((server) => server.end()))).toEqual([0, 0, 0]);
  await redis.kill();
  await drop();
});

test("a second server without REDIS_URL does not start and names the reason, and the first one keeps running", async () => {
  const { url, drop } = await createTestDatabase();
  const first = await startProcess({ ...keys, DATABASE_URL: url, SERVER_NAME: "the_first" });
  const { code, output } = await runProcess({ ...keys, DATABASE_URL: url });
  expect(code).toBe(1);
  expect(withoutLog(output)).toMatch(
    /^REDIS_URL: another server runs on this database: the_first\. [^\n]*rolling deployment/,
  );
  expect((await fetch(`${first.url}/admin/system/check`)).status).toBe(200);
  expect(await first.end()).toBe(0);
  await drop();
});

test("SIGTERM lets a running call finish, accepts no new one, and exits with 0", async () => {
  const { url, database, drop } = await createTestDatabase();
  const server = await startProcess({ ...keys, DATABASE_URL: url });
  const token = await login(server, adminPassword);

  const lock = await database.transaction();
  await lock.raw("lock table company in access exclusive mode");
  const running = post(`${server.url}/admin/companies`, { key: "while_draining" }, token);
  await waitFor(async () => {
    const { rows } = await database.raw("select 1 from pg_stat_activity where wait_event_type = 'Lock'");
    return rows.length > 0;
  });
  const ended = server.end("SIGTERM");
  await waitFor(() =>
    fetch(`${server.url}/admin/system/check`).then(
      () => false,
      () => true,
    ),
  );
  await lock.commit();
  expect(await running).toEqual({ status: 201, body: { key: "while_draining", detail: null } });
  expect(await ended).toBe(0);
  await drop();
});

test("the drain cuts a call that exceeds its limit, and the server exits", async () => {
  const { url, database, drop } = await createTestDatabase();
  const server = await startProcess({ ...keys, DATABASE_URL: url, DRAIN_MS: "200" });
  const token = await login(server, adminPassword);
  const lock = await database.transaction();
  await lock.raw("lock table company in access exclusive mode");
  const running = post(`${server.url}/admin/companies`, { key: "stuck" }, token).then(
    () => "answered",
    () => "cut",
  );
  await waitFor(async () => {
    const { rows } = await database.raw("select 1 from pg_stat_activity where wait_event_type = 'Lock'");
    return rows.length > 0;
  });
  expect(await server.end("SIGTERM")).toBe(0);
  expect(await running).toBe("cut");
  await lock.rollback();
  await drop();
});

/** Repeats the check until it holds. The test's timeout bounds it. */
async function waitFor(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo()));
}

test.each<[string, Record<string, string>, RegExp]>([
  ["a missing certificate", { TLS_CERT: "missing.pem", TLS_KEY: "missing.pem" }, /^TLS_CERT and TLS_KEY: ENOENT/],
  [
    "a file that is not a certificate",
    { TLS_CERT: "package.json", TLS_KEY: "package.json" },
    /^TLS_CERT and TLS_KEY: /,
  ],
  ["an address of another machine", { HOST: "192.0.2.1" }, /^HOST and PORT: .*192\.0\.2\.1/],
])("a start with %s fails and names the setting", async (_what, settings, line) => {
  const { url, drop } = await createTestDatabase();
  const { code, output } = await runProcess({ ...keys, DATABASE_URL: url, ...settings });
  await drop();
  // Work that the exit interrupts may write log lines.
  const printed = output.split("\n").filter((text) => text !== "" && !text.startsWith("{"));
  expect([code, printed]).toEqual([1, [expect.stringMatching(line)]]);
});

test("acknowledged settlements, actions and data survive a killed server", async () => {
  const { url, database, drop } = await createTestDatabase();
  const server = await startProcess({ ...keys, DATABASE_URL: url });
  const { token } = (await post(`${server.url}/admin/token/generation`, { username: "admin", password: adminPassword }))
    .body;
  const [row] = (await database("user_account").where({ username: "admin" }).select("id")) as [{ id: number }];
  await database("quota").insert({
    user_id: row.id,
    service: "ROUTING",
    method_group: "PLAN",
    points_per_request: 1_000_000,
    points_per_day: 100_000_000,
  });
  const request = { username: "admin", service: "ROUTING", method_group: "PLAN", points: 1 };
  const acquireAndSettle = async (index: number) => {
    const operation_id = `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`;
    const { body } = await post(`${server.url}/quota/leases`, { ...request, operation_id }, token);
    return post(`${server.url}/quota/leases/${body.lease.lease_id}:settle`, { points: 2 }, token);
  };
  const recordAction = () => {
    const [tracecode, time] = [randomUUID(), new Date().toISOString()];
    const action = { ...request, tracecode, operation: "run_plan", time };
    return post(`${server.url}/audit/actions`, { actions: [action] }, token);
  };
  const put = async () => {
    const path = `/admin/data/${randomUUID()}?username=admin`;
    const init = { method: "PUT", headers: { authorization: `Bearer ${token}` }, body: Buffer.alloc(600_000, 1) };
    return fetch(`${server.url}${path}`, init);
  };
  const tasks = Array.from({ length: 50 }, (_none, index) => [
    acquireAndSettle(index),
    recordAction(),
    ...(index < 5 ? [put()] : []),
  ]);
  const answers = await Promise.all(tasks.flat());
  server.process.kill("SIGKILL");
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  expect(await database("usage_with_pending").select("requests", "points")).toEqual([{ requests: 100, points: 150 }]);
  expect(await database("audit_action").whereNot({ operation: "login" }).count()).toEqual([{ count: 100 }]);
  expect(await database("data_file").sum("bytes")).toEqual([{ sum: "3000000" }]);
  expect(await database("data_chunk").count()).toEqual([{ count: 15 }]);
  await server.end("SIGKILL");
  await drop();
});

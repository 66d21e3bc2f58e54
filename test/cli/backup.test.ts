import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCommandLine } from "../../src/cli/run.ts";
import { tryLockSession } from "../../src/postgres/advisory-locks.ts";
import type { Database } from "../../src/postgres/database.ts";
import { migrate, readMigrations } from "../../src/postgres/migrate.ts";
import { ensurePartitions } from "../../src/postgres/partitions.ts";
import { verifyUsage } from "../../src/quotas/ledger/verify.ts";
import { verifyLeases } from "../../src/quotas/ledger/verify-leases.ts";
import { type Day, dayAt, toIsoDay } from "../../src/shared/calendar.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startReceiver } from "../support/receiver.ts";

const tokenKeys = "a-secret-for-tests-that-is-long-enough";
const period = { from: "2000-01-01", to: "9999-12-31" };
let app: TestApp;
let planner: string;
let username: string;
let folder: string;
let quiet: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "backup-"));
  app = await startTestApp();
  username = await app.user();
  planner = await app.token(await app.user({ roles: ["BOT"] }));
  const methods = [{ method_group: "PLAN", points_per_day: 100_000 }];
  await app.http("PUT", `/admin/quotas/${username}`, {
    token: app.admin,
    body: { services: [{ service: "ROUTING", methods }] },
  });
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await app.stop();
});

test("a backup under load restores to books that agree", async () => {
  const file = join(folder, "load.backup");
  let isOver = false;
  const planning = Array.from({ length: 8 }, async () => {
    for (let count = 0; ; count += 1) {
      if (isOver) return count;
      await plan(7);
    }
  });
  await expect.poll(() => count(app.database, "lease"), { timeout: 60_000 }).toBeGreaterThan(100);
  const backup = await run(["backup", "--output", file], app.databaseUrl);
  const before = await count(app.database, "lease");
  isOver = true;
  await Promise.all(planning);
  expect(backup).toMatchObject({ code: 0 });
  const target = await createTestDatabase({ empty: true });
  try {
    expect(await run(["restore", file], target.url)).toMatchObject({ code: 0, stderr: "" });
    const leases = await count(target.database, "lease");
    expect(leases).toBeGreaterThan(100);
    expect(leases).toBeLessThanOrEqual(before);
    await expectBooksAgree(target.database);
  } finally {
    await target.drop();
  }
});

test("every table is equal after a restore, and counters say what the ledger says", async () => {
  quiet = join(folder, "quiet.backup");
  await plan(7);
  const open = await acquire(11);
  await insertLargeRow(dayAt(Date.now(), 0) - 40);
  await expect.poll(() => app.database("lease").where({ state: 0 })).toHaveLength(1);
  // The roll-up of the audit log works on after the last call.
  await expect.poll(() => count(app.database, "audit_pending")).toBe(0);
  // Read from the table: a call that reads the usage of another user is an action of the audit log itself.
  const spent = Number((await app.database("charged_day").sum("points"))[0]?.["sum"]);
  expect(await run(["backup", "--output", quiet], app.databaseUrl)).toMatchObject({ code: 0 });
  expect(statSync(quiet).mode & 0o777).toBe(0o600);
  const expected = await digest(app.database);
  expect(Object.keys(expected)).toEqual(expect.arrayContaining(["lease", "audit_action", "usage_day", "charged_day"]));
  const target = await createTestDatabase();
  expect(await run(["restore", quiet], target.url)).toMatchObject({ code: 0 });
  expect(await digest(target.database)).toEqual(expected);
  await expectBooksAgree(target.database);
  const restored = await startTestApp({ DATABASE_URL: target.url });
  try {
    expect(await usageOf(restored)).toMatchObject({ used: spent, reserved: 11 });
    expect((await acquire(100_000 - spent - 11 + 1, restored)).status).toBe(429);
    expect((await acquire(100_000 - spent - 11, restored)).status).toBe(200);
    const settle = { token: planner, body: { points: 11 } };
    expect((await restored.http("POST", `/quota/leases/${open.body.lease.lease_id}:settle`, settle)).status).toBe(200);
    // The sequence goes on behind the users of the backup.
    const name = await restored.user({ username: "after_restore", company_key: "company_2" });
    expect(await count(target.database, "user_account")).toBe((await count(app.database, "user_account")) + 1);
    expect(name).toBe("after_restore");
  } finally {
    await restored.stop();
    await target.drop();
  }
});

test("a restored server sends the alerts and audit actions that waited at the backup, and none that were sent", async () => {
  const file = join(folder, "outbox.backup");
  let status = 204;
  const receiver = await startReceiver(() => status);
  const secret = `whsec_${randomBytes(32).toString("base64")}`;
  const settings = {
    WEBHOOK_URL: receiver.url,
    WEBHOOK_SECRET: secret,
    AUDIT_SINK_URL: receiver.url,
    AUDIT_SINK_SECRET: secret,
  };
  const sentAlerts = () => receiver.received.map(({ body }) => JSON.parse(body).data.threshold).filter(Boolean);
  const sentActions = () =>
    receiver.received.flatMap(({ body }) => (JSON.parse(body).data.actions ?? []) as { tracedata: { code: string } }[]);
  const tracecodes = () => sentActions().map(({ tracedata }) => tracedata.code);
  const failing = await startTestApp(settings);
  const target = await createTestDatabase({ empty: true });
  let restored: TestApp | undefined;
  try {
    const user = await failing.user();
    await failing.setLimits(user, { points_per_day: 100 });
    const token = await failing.token(await failing.user({ roles: ["BOT"] }));
    const spend = async (points: number) => {
      const { body } = await acquire(points, failing, { token, username: user });
      const path = `/quota/leases/${body.lease.lease_id}:settle`;
      expect((await failing.http("POST", path, { token, body: { points } })).status).toBe(200);
    };
    await spend(80);
    await expect.poll(sentAlerts, { timeout: 30_000 }).toEqual(["80%"]);
    await expect.poll(() => failing.database("audit_outbox"), { timeout: 30_000 }).toEqual([]);
    const acceptedActions = new Set(tracecodes());
    status = 503;
    await spend(20);
    await expect.poll(() => new Set(sentAlerts()), { timeout: 30_000 }).toEqual(new Set(["80%", "95%", "100%"]));
    await expect.poll(() => tracecodes().length, { timeout: 30_000 }).toBeGreaterThan(acceptedActions.size);
    expect(await run(["backup", "--output", file], failing.databaseUrl)).toMatchObject({ code: 0 });
    await failing.stop();
    receiver.received.length = 0;
    status = 204;
    expect(await run(["restore", file], target.url)).toMatchObject({ code: 0 });
    const recorded: string[] = await target.database("audit_action").pluck("tracecode");
    restored = await startTestApp({ DATABASE_URL: target.url, ...settings });
    await expect.poll(() => target.database("outbox").whereNot({ state: 1 }), { timeout: 30_000 }).toEqual([]);
    await expect.poll(() => target.database("audit_outbox"), { timeout: 30_000 }).toEqual([]);
    expect(sentAlerts().toSorted()).toEqual(["100%", "95%"]);
    const waiting = recorded.filter((code) => !acceptedActions.has(code));
    expect(waiting.length).toBeGreaterThan(0);
    const sent = tracecodes();
    // The restored server has recorded a login since.
    expect(sent.filter((code) => recorded.includes(code)).toSorted()).toEqual(waiting.toSorted());
  } finally {
    await restored?.stop();
    await target.drop();
    await receiver.stop();
  }
}, 120_000);

test("a database that holds rows, or on which a server runs, is refused", async () => {
  const before = await digest(app.database);
  const running = await run(["restore", quiet], app.databaseUrl);
  expect(running).toEqual({ code: 3, stdout: "", stderr: "tollgate: a server runs on this database: stop it first\n" });
  expect(await digest(app.database)).toEqual(before);
  await withTarget(async (target) => {
    await target.database("company").insert({ key: "present" });
    const filled = await run(["restore", quiet], target.url);
    expect(filled).toMatchObject({ code: 3, stderr: "tollgate: the database must be empty, but company holds rows\n" });
    expect(await count(target.database, "company")).toBe(1);
  });
});

test("a restore waits for a server that is stopping", async () => {
  await withTarget(async (target) => {
    const server = new pg.Client({ connectionString: target.url });
    await server.connect();
    await tryLockSession(server, "server");
    const restoring = run(["restore", quiet], target.url);
    await expect.poll(() => lockAttempts(target.database), { timeout: 30_000, interval: 1 }).toBeGreaterThan(0);
    await server.end();
    expect(await restoring).toMatchObject({ code: 0 });
  });
});

test("a backup of an earlier version is migrated after its rows are restored", async () => {
  const file = join(folder, "earlier.backup");
  const numbers = (await readMigrations()).map(({ number }) => number);
  const earlier = await createTestDatabase({ empty: true });
  const target = await createTestDatabase({ empty: true });
  try {
    await migrate(earlier.database, undefined, new Set(numbers.slice(0, -1)));
    await earlier.database("company").insert({ key: "early" });
    expect(await run(["backup", "--output", file], earlier.url)).toMatchObject({ code: 0 });
    expect(await run(["restore", file], target.url)).toMatchObject({ code: 0 });
    expect(await target.database("company").pluck("key")).toEqual(["early"]);
    expect(await target.database("company_total").pluck("total")).toEqual([1]);
    expect(await target.database("migration").orderBy("number").pluck("number")).toEqual(numbers);
    await withTarget(async (current) => {
      const refused = "tollgate: the database is newer than the backup: restore into a database without tables\n";
      expect(await run(["restore", file], current.url)).toEqual({ code: 3, stdout: "", stderr: refused });
    });
  } finally {
    await earlier.drop();
    await target.drop();
  }
});

test.each<[string, (whole: Buffer) => Buffer, RegExp]>([
  ["cut in half", (whole) => whole.subarray(0, whole.length / 2), /is cut/],
  ["without its last byte", (whole) => whole.subarray(0, -1), /is cut/],
  ["with one bit changed", (whole) => flip(whole, whole.length / 2), /damaged|is cut/],
  ["with a byte after its end", (whole) => Buffer.concat([whole, Buffer.from("x")]), /damaged/],
  ["of another program", () => Buffer.from("PGDMP, a dump of something else"), /not a backup/],
  ["that is empty", () => Buffer.alloc(0), /not a backup/],
])("a file %s is refused before anything changes", async (name, change, message) => {
  const file = join(folder, `${name.replaceAll(" ", "-")}.backup`);
  writeFileSync(file, change(Buffer.from(readFileSync(quiet))));
  const target = await createTestDatabase({ empty: true });
  try {
    expect(await run(["restore", file], target.url)).toEqual({
      code: 3,
      stdout: "",
      stderr: expect.stringMatching(message),
    });
    const { rows } = await target.database.raw("select 1 from pg_class where relnamespace = 'public'::regnamespace");
    expect(rows).toEqual([]);
  } finally {
    await target.drop();
  }
});

test("a backup on stdout is the backup in a file, and an earlier file is not replaced", async () => {
  const { code, bytes } = await run(["backup"], app.databaseUrl);
  expect(code).toBe(0);
  expect(bytes.subarray(0, 18).toString()).toBe("tollgate backup 1\n");
  const before = readFileSync(quiet);
  const refused = `tollgate: ${quiet} exists: remove it, or choose another name\n`;
  expect(await run(["backup", "--output", quiet], app.databaseUrl)).toEqual({ code: 3, stdout: "", stderr: refused });
  expect(readFileSync(quiet).equals(before)).toBe(true);
});

test("a backup whose output fails is not a success", async () => {
  const backup = "node --import tsx src/cli/tollgate.ts backup";
  const script = `${backup} | head -c 18; echo "\${PIPESTATUS[0]}"; ${backup} > /dev/full; echo "$?"`;
  const env = { PATH: process.env["PATH"], DATABASE_URL: app.databaseUrl, TOKEN_KEYS: tokenKeys };
  const child = spawn("bash", ["--norc", "-c", script], { env });
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  expect(stdout).toBe("tollgate backup 1\n3\n3\n");
  expect(stderr).toMatch(/^tollgate: .*EPIPE\ntollgate: .*ENOSPC.*\n$/);
});

test("a backup whose connection is lost is not a success", async () => {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const ended = runCommandLine(terminal(["backup"], app.databaseUrl, { stdout, stderr }));
  // The backup stops within the large row.
  let bytes = 0;
  stdout.on("data", (piece: Buffer) => (bytes += piece.length) > 1_000_000 && stdout.pause());
  await expect.poll(() => stdout.isPaused(), { timeout: 60_000 }).toBe(true);
  const end = `select pg_terminate_backend(pid) from pg_stat_activity where query like 'copy (%"data_chunk"%' and state = 'active'`;
  expect((await app.database.raw(end)).rows).toHaveLength(1);
  stdout.removeAllListeners("data").resume();
  expect(await ended).toBe(3);
});

test("a restore that is interrupted changes no row", async () => {
  await withTarget(async (target) => {
    const { code } = await run(["restore", quiet], target.url, AbortSignal.abort());
    expect(code).toBe(3);
    expect(await count(target.database, "company")).toBe(0);
    expect(await run(["restore", quiet], target.url)).toMatchObject({ code: 0 });
  });
});

async function run(words: readonly string[], databaseUrl: string, signal?: AbortSignal) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const read = Promise.all([buffer(stdout), text(stderr)]);
  const code = await runCommandLine(terminal(words, databaseUrl, { stdout, stderr, ...(signal && { signal }) }));
  stdout.end();
  stderr.end();
  const [bytes, errors] = await read;
  const result = { code, stdout: words[0] === "backup" ? "" : bytes.toString(), stderr: errors };
  return Object.defineProperty(result, "bytes", { value: bytes }) as typeof result & { bytes: Buffer };
}

function terminal(
  words: readonly string[],
  databaseUrl: string,
  streams: { stdout: PassThrough; stderr: PassThrough; signal?: AbortSignal },
) {
  const environment = { DATABASE_URL: databaseUrl, TOKEN_KEYS: tokenKeys };
  return { words, environment, stdin: Readable.from([]), signal: new AbortController().signal, ...streams };
}

/** Inserts a row of many frames, of a day for which a new database has no partition. */
async function insertLargeRow(day: Day): Promise<void> {
  await ensurePartitions(app.database, "data_chunk", new Set([day]));
  const row = { day: toIsoDay(day), file_id: 1, start: 0, content: randomBytes(8_000_000) };
  await app.database("data_chunk").insert(row);
}

async function acquire(points: number, on = app, caller = { token: planner, username }) {
  const { token, username: name } = caller;
  const body = { username: name, service: "ROUTING", method_group: "PLAN", points, operation_id: crypto.randomUUID() };
  return on.http("POST", "/quota/leases", { token, body });
}

async function plan(points: number): Promise<void> {
  const { status, body } = await acquire(points);
  expect([status, body]).toEqual([200, expect.anything()]);
  const settled = await app.http("POST", `/quota/leases/${body.lease.lease_id}:settle`, {
    token: planner,
    body: { points },
  });
  expect(settled.status).toBe(200);
}

async function usageOf(on: TestApp): Promise<{ used: number; reserved: number }> {
  const { body } = await on.http("GET", `/quota/usage/${username}`, { token: on.admin });
  const limits = body.usages[0].limits as { name: string; used: number; reserved: number }[];
  return limits.find(({ name }) => name === "POINTS_PER_DAY") ?? { used: -1, reserved: -1 };
}

async function expectBooksAgree(database: Database): Promise<void> {
  const today = new Date().toISOString().slice(0, 10);
  const { compared, differences } = await verifyUsage(database, { ...period, today });
  expect([compared > 0, differences]).toEqual([true, []]);
  expect(await verifyLeases(database, period)).toEqual([]);
}

/** Returns the number of sessions of the command whose last statement tries to take an advisory lock. */
async function lockAttempts(database: Database): Promise<number> {
  const { rows } = await database.raw(`
    select count(*)::integer as attempts from pg_stat_activity
    where datname = current_database() and application_name <> ''
      and query like 'select pg_try_advisory_lock(%'`);
  return rows[0].attempts;
}

async function count(database: Database, table: string): Promise<number> {
  return Number((await database(table).count())[0]?.["count"]);
}

/** A digest of the rows of every table, with those of partitions in their parent. */
async function digest(database: Database): Promise<Record<string, string>> {
  const { rows } = await database.raw<{ rows: { name: string }[] }>(
    `select relname as name from pg_class where relkind in ('r', 'p') and not relispartition
       and relnamespace = 'public'::regnamespace and relname not in ('migration', 'counter_store')`,
  );
  const digests: Record<string, string> = {};
  for (const { name } of rows) {
    const sum = await database.raw(
      `select count(*) || ' ' || coalesce(md5(string_agg(t::text, ' ' order by t::text collate "C")), '') as sum from "${name}" t`,
    );
    digests[name] = sum.rows[0].sum;
  }
  return digests;
}

async function withTarget(work: (target: TestDatabase) => Promise<void>): Promise<void> {
  const target = await createTestDatabase();
  try {
    await work(target);
  } finally {
    await target.drop();
  }
}

function flip(whole: Buffer, place: number): Buffer {
  const at = Math.floor(place);
  whole.writeUInt8(whole.readUInt8(at) ^ 1, at);
  return whole;
}

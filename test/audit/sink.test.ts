import { execFileSync } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import pino from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { sendWebhook } from "../../src/alerts/webhook.ts";
import { type AuditSink, type AuditSinkOptions, startAuditSink } from "../../src/audit/sink.ts";
import { dropUnsentActions, readUnsentAge } from "../../src/audit/sink-outbox.ts";
import { createActionWriter } from "../../src/audit/writer.ts";
import type { Transaction } from "../../src/postgres/database.ts";
import { dropPartitions } from "../../src/postgres/partitions.ts";
import { dayMicros } from "../../src/shared/calendar.ts";
import type { Action } from "../../src/shared/records.ts";
import type { Json } from "../support/app.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type Received, startReceiver } from "../support/receiver.ts";

const key = randomBytes(32);
const schedule = { pollMs: 2, firstMs: 1, mostMs: 4, claimMs: 10_000, batchActions: 100 };
const startMicros = Date.UTC(2026, 10, 20, 12) * 1000;
const noRollUp = { scheduleRollUp: () => undefined, stop: async () => undefined };

let fixture: TestDatabase;
let receiver: Awaited<ReturnType<typeof startReceiver>>;
let running: AuditSink[] = [];
let log: Json[] = [];
beforeAll(async () => {
  fixture = await createTestDatabase({ poolSize: 20 });
  await writer().prepare([actionOf("prepared", 0)]);
});
afterEach(async () => {
  await Promise.all(running.map((sink) => sink.stop()));
  await receiver.stop();
  running = [];
  log = [];
  await fixture.database("audit_outbox").delete();
  await fixture.database("audit_sink").delete();
});
afterAll(() => fixture.drop());

test("the sink receives actions as lists show them, in a batch that another implementation verifies", async () => {
  receiver = await startReceiver();
  const full = {
    points: 7,
    durationMs: 1500,
    resource: "ü",
    address: "203.0.113.8",
    times: 2,
    visibleCompany: "other",
  };
  await write([{ ...actionOf("acme", 2), ...full }, actionOf("acme", 1)]);
  start();
  // Python blocks the event loop, so the answer must have arrived before.
  await expect.poll(() => fixture.database("audit_outbox"), { timeout: 10_000 }).toEqual([]);
  const [batch] = receiver.received as [Received];
  expect(batch.contentType).toBe("application/json");
  expect(isSignedByPython(batch)).toBe(true);
  expect(isSignedByPython({ ...batch, body: batch.body.replace("acme", "acne") })).toBe(false);
  const { type, timestamp, data } = JSON.parse(batch.body);
  expect([type, data.sequence, data.dropped]).toEqual(["audit.actions", 1, 0]);
  expect(Math.abs(Date.parse(timestamp) - Date.now())).toBeLessThan(60_000);
  expect(data.actions.map(({ tracedata }: Json) => tracedata.operation)).toEqual(["run_1", "run_2"]);
  expect(data.actions[1]).toEqual({
    id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
    username: "anna",
    company_key: "acme",
    tracedata: {
      code: expect.stringMatching(/-/),
      client: "acme_|_anna",
      server: "planner",
      service: "ROUTING",
      operation: "run_2",
      time: "2026-11-20T12:00:00.000002Z",
    },
    method_group: "PLAN",
    statistics: { points_count: 7, duration: "PT1.5S" },
    resource: "ü",
    outcome: "SUCCESS",
    address: "203.0.113.8",
    count: 2,
  });
  expect(running[0]?.counts).toEqual({ batches: { accepted: 1, failed: 0 }, actions: { sent: 2, dropped: 0 } });
});

test("a transaction that commits late is not passed over, and each company's actions arrive in order", async () => {
  receiver = await startReceiver();
  const companies = ["acme", "blue", "core", "dune"];
  const late = await fixture.database.transaction();
  await writeIn(late, [actionOf("late", 1)]);
  start();
  await Promise.all(
    companies.map(async (company) => {
      for (let number = 0; number < 40; number += 1) await write([actionOf(company, number)]);
    }),
  );
  await expect.poll(() => receivedActions().length, { timeout: 10_000 }).toBe(160);
  expect(receivedActions().filter(({ company_key: company }) => company === "late")).toEqual([]);
  await late.commit();
  await write([actionOf("late", 2)]);
  await expect.poll(() => receivedActions().length).toBe(162);
  for (const company of companies) expect(operationsOf(company)).toEqual(operations(0, 40));
  expect(operationsOf("late")).toEqual(operations(1, 3));
  expect(receiver.received.map(({ body }) => JSON.parse(body).data.sequence)).toEqual(
    receiver.received.map((_batch, index) => index + 1),
  );
});

test("a rolled back transaction, a repeated action and a server without a sink add nothing", async () => {
  receiver = await startReceiver();
  const action = actionOf("acme", 1);
  const rolledBack = await fixture.database.transaction();
  await writeIn(rolledBack, [actionOf("acme", 0)]);
  await rolledBack.rollback();
  await write([action]);
  await write([action, actionOf("acme", 2)]);
  await fixture.database.transaction((transaction) =>
    createActionWriter(fixture.database, noRollUp).write(transaction, [actionOf("acme", 3)]),
  );
  start();
  await expect.poll(() => fixture.database("audit_outbox")).toEqual([]);
  expect(operationsOf("acme")).toEqual(operations(1, 3));
});

test("a server that dies after the sink has accepted a batch loses nothing, and repeats actions with the same id", async () => {
  receiver = await startReceiver();
  for (let number = 0; number < 150; number += 1) await write([actionOf("acme", number)]);
  const dying = start({
    async send(batch) {
      await post(batch);
      await new Promise(() => {});
    },
    schedule: { ...schedule, claimMs: 200 },
  });
  await expect.poll(() => receiver.received).toHaveLength(1);
  running = running.filter((sink) => sink !== dying);
  start();
  await expect.poll(() => fixture.database("audit_outbox")).toEqual([]);
  const all = receivedActions();
  expect(all).toHaveLength(250);
  const byId = new Map(all.map((action) => [action.id, action]));
  expect([...byId.values()].map(({ tracedata }) => tracedata.operation)).toEqual(operations(0, 150));
  const [first, repeated] = receiver.received as [Received, Received];
  expect([repeated.id, repeated.body]).toEqual([first.id, first.body]);
});

test("a sink that fails, redirects and hangs gets every action later, and the log has one line for each turn", async () => {
  const answers = [500, 302, 0, 429, 503];
  let release = () => {};
  receiver = await startReceiver(() => {
    const status = answers.shift() ?? 200;
    return status === 0 ? new Promise((resolve) => (release = () => resolve(500))) : status;
  });
  await write([actionOf("acme", 1)]);
  const send = (batch: { id: string; body: string }) => post(batch, 1000);
  // Two servers: the state of the failure is common.
  for (let server = 0; server < 2; server += 1) start({ send });
  await expect.poll(() => fixture.database("audit_outbox"), { timeout: 10_000 }).toEqual([]);
  release();
  expect(receiver.received).toHaveLength(6);
  expect(new Set(receiver.received.map(({ id, body }) => id + body)).size).toBe(1);
  await expect.poll(() => log.map(({ msg }) => msg)).toEqual(["audit sink lost", "audit sink restored"]);
  expect(log[0].reason).toBe("the receiver answered 500");
  expect(log[1].failures).toBe(5);
  expect(running.reduce((sum, { counts }) => sum + counts.batches.failed, 0)).toBe(5);
});

test("delays double with each failure, up to the longest, and vary by half", async () => {
  receiver = await startReceiver(() => 500);
  await write([actionOf("acme", 1)]);
  const delays: number[] = [];
  for (const [attempt, random] of [0, 0.999, 0, 0].entries()) {
    const long = { ...schedule, firstMs: 1_000_000, mostMs: 5_000_000 };
    const failing = start({ random: () => random, schedule: long });
    await expect.poll(() => fixture.database("audit_sink").first("failures")).toEqual({ failures: attempt + 1 });
    await failing.stop();
    const { rows } = await fixture.database.raw(
      "select extract(epoch from next_at - now())::float8 as delay from audit_sink",
    );
    delays.push(rows[0].delay);
    await fixture.database("audit_sink").update({ next_at: fixture.database.fn.now() });
  }
  expect(delays.map((delay) => Math.round(delay / 50))).toEqual([10, 40, 40, 50]);
});

test("of two servers one sends each batch, and the sink gets each once", async () => {
  receiver = await startReceiver();
  for (let server = 0; server < 2; server += 1) start();
  for (let number = 0; number < 400; number += 10) {
    await write(Array.from({ length: 10 }, (_none, index) => actionOf("acme", number + index)));
  }
  await expect.poll(() => fixture.database("audit_outbox"), { timeout: 10_000 }).toEqual([]);
  expect(operationsOf("acme")).toEqual(operations(0, 400));
});

test("a batch has at most the configured actions and 512 KiB", async () => {
  receiver = await startReceiver();
  const long = (number: number) => ({ operation: `${number}`.padEnd(256, "☃"), server: '"'.repeat(256) });
  await write(Array.from({ length: 950 }, (_none, index) => ({ ...actionOf("acme", index), ...long(index) })));
  start({ schedule: { ...schedule, batchActions: 1000 } });
  await expect.poll(() => receivedActions().length, { timeout: 10_000 }).toBe(950);
  expect(receivedActions().map(({ tracedata }) => Number.parseInt(tracedata.operation, 10))).toEqual(numbers(0, 950));
  expect(receiver.received.length).toBeGreaterThan(1);
  for (const { body } of receiver.received) expect(Buffer.byteLength(body)).toBeLessThan(524_288 + 1000);
});

describe("actions that are dropped before they are sent", () => {
  test("count in the next batch when retention has dropped their rows", async () => {
    receiver = await startReceiver();
    const day = startMicros / dayMicros - 40;
    const old = { ...actionOf("acme", 1), timeMicros: Math.floor(day) * dayMicros };
    await writer().prepare([old]);
    await write([old]);
    await write([actionOf("acme", 2)]);
    await dropPartitions(fixture.database, "audit_action", Math.floor(day) + 1);
    start();
    await expect.poll(() => receiver.received).toHaveLength(1);
    expect(JSON.parse(receiver.received[0]?.body ?? "").data.dropped).toBe(1);
    expect(operationsOf("acme")).toEqual(["run_2"]);
    await expect.poll(() => log).toEqual([expect.objectContaining({ level: 50, msg: "unsent audit actions dropped" })]);
    expect(running[0]?.counts.actions).toEqual({ sent: 1, dropped: 1 });
  });

  test("count once when they waited longer than the retention", async () => {
    receiver = await startReceiver(() => 503);
    start();
    await write([actionOf("acme", 1), actionOf("acme", 2)]);
    await expect.poll(() => receiver.received.length).toBeGreaterThan(0);
    expect(await readUnsentAge(fixture.database)).toBeGreaterThan(0);
    await Promise.all(running.map((sink) => sink.stop()));
    expect(await dropUnsentActions(fixture.database, Date.now() - 60_000)).toBe(0);
    expect(await dropUnsentActions(fixture.database, Date.now() + 60_000)).toBe(2);
    expect(await readUnsentAge(fixture.database)).toBe(0);
    await receiver.stop();
    receiver = await startReceiver();
    await write([actionOf("acme", 3)]);
    start();
    await expect.poll(() => fixture.database("audit_outbox")).toEqual([]);
    await write([actionOf("acme", 4)]);
    await expect.poll(() => receiver.received).toHaveLength(2);
    expect(receiver.received.map(({ body }) => JSON.parse(body).data.dropped)).toEqual([2, 0]);
  });
});

test("a database that does not answer delays the sending, and the log has one line", async () => {
  receiver = await startReceiver();
  await fixture.database.raw("alter table audit_outbox rename to moved_outbox");
  const sink = start();
  await expect.poll(() => log.map(({ msg }) => msg)).toEqual(["audit outbox not read"]);
  await fixture.database.raw("alter table moved_outbox rename to audit_outbox");
  await write([actionOf("acme", 1)]);
  await expect.poll(() => sink.counts.actions.sent).toBe(1);
  expect(log).toHaveLength(1);
});

function writer() {
  return createActionWriter(fixture.database, noRollUp, true);
}

async function writeIn(transaction: Transaction, actions: readonly Action[]): Promise<void> {
  await writer().write(transaction, actions);
}

async function write(actions: readonly Action[]): Promise<void> {
  await fixture.database.transaction((transaction) => writeIn(transaction, actions));
}

function actionOf(companyKey: string, number: number): Action {
  return {
    timeMicros: startMicros + number,
    tracecode: randomUUID(),
    operation: `run_${number}`,
    userId: 1,
    username: "anna",
    companyKey,
    server: "planner",
    service: 2,
    methodGroup: 3,
    outcome: 1,
  };
}

function post(batch: { readonly id: string; readonly body: string }, timeoutMs = 5000): Promise<void> {
  return sendWebhook(batch, { url: receiver.url, keys: [key], timeoutMs, now: () => Date.now() });
}

function start(options: Partial<AuditSinkOptions> = {}): AuditSink {
  const logger = pino({}, { write: (line: string) => log.push(JSON.parse(line)) });
  const sink = startAuditSink({ database: fixture.database, logger, send: post, schedule, ...options });
  running.push(sink);
  return sink;
}

function receivedActions(): Json[] {
  return receiver.received.flatMap(({ body }) => JSON.parse(body).data.actions);
}

function operationsOf(company: string): string[] {
  const own = receivedActions().filter(({ company_key: key }) => key === company);
  return own.map(({ tracedata }) => tracedata.operation);
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_none, index) => from + index);
const operations = (from: number, to: number) => numbers(from, to).map((number) => `run_${number}`);

/** Verifies a batch as the specification of Standard Webhooks says, by Python's hmac. */
function isSignedByPython({ id, timestamp, signature, body }: Received): boolean {
  const script = `
import base64, hashlib, hmac, json, sys
given = json.load(sys.stdin)
key = base64.b64decode(given["secret"].removeprefix("whsec_"))
text = (given["id"] + "." + given["timestamp"] + "." + given["body"]).encode("utf-8")
expected = "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
print(any(hmac.compare_digest(expected, one) for one in given["signature"].split(" ")))`;
  const input = JSON.stringify({ id, timestamp, signature, body, secret: `whsec_${key.toString("base64")}` });
  return execFileSync("python3", ["-c", script], { input, encoding: "utf8" }).trim() === "True";
}

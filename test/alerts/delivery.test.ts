import { createHmac, randomBytes, randomUUID } from "node:crypto";
import pino from "pino";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Delivery, type DeliveryCounts, type DeliveryOptions, startDelivery } from "../../src/alerts/delivery.ts";
import { countUnsentAlerts, insertAlerts } from "../../src/alerts/outbox.ts";
import { sendWebhook } from "../../src/alerts/webhook.ts";
import { alertMetrics } from "../../src/metrics/alert-metrics.ts";
import type { MetricSources } from "../../src/metrics/sources.ts";
import { runCommand } from "../support/command-line.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type Received, startReceiver } from "../support/receiver.ts";

const schedule = { pollMs: 5, firstMs: 1, mostMs: 4, attempts: 4 };
const keys = [randomBytes(24), randomBytes(64)];
const body = JSON.stringify({ data: { username: "user_1", limit: "POINTS_PER_DAY", threshold: "80%", note: "ü" } });
let fixture: TestDatabase;
let running: Delivery[] = [];
beforeAll(async () => {
  fixture = await createTestDatabase();
});
afterEach(async () => {
  await Promise.all(running.map((delivery) => delivery.stop()));
  running = [];
  await fixture.database("outbox").delete();
});
afterAll(() => fixture.drop());

test("a webhook has the headers of Standard Webhooks, and a signature of each key", async () => {
  const receiver = await startReceiver();
  const id = await insert();
  start(receiver.url);
  await expect.poll(() => stateOf(id)).toMatchObject({ state: 1, attempts: 1 });
  const [{ timestamp, signature, ...received }] = receiver.received as [Received];
  expect(received).toEqual({ id, body, contentType: "application/json" });
  expect(Math.abs(Number(timestamp) - Date.now() / 1000)).toBeLessThan(60);
  const sign = (key: Buffer) =>
    `v1,${createHmac("sha256", key).update(id).update(".").update(timestamp).update(".").update(body, "utf8").digest("base64")}`;
  expect(signature).toBe(keys.map(sign).join(" "));
  await receiver.stop();
});

test("a receiver that fails and recovers gets every alert, with the same id and body at each attempt", async () => {
  const failures = [500, 429, 302];
  const receiver = await startReceiver(() => failures.shift() ?? 200);
  const id = await insert();
  start(receiver.url);
  await expect.poll(() => stateOf(id)).toMatchObject({ state: 1, attempts: 4, error: null });
  expect(new Set(receiver.received.map((one) => one.id + one.body)).size).toBe(1);
  await receiver.stop();
});

test("an alert is abandoned after the last attempt, listed, and sent when it is retried", async () => {
  let status = 503;
  const receiver = await startReceiver(() => status);
  const id = await insert();
  const { counts } = start(receiver.url);
  await expect.poll(() => stateOf(id)).toMatchObject({ state: 2, attempts: 4, error: "the receiver answered 503" });
  await expect
    .poll(() => metricsOf(counts))
    .toEqual({
      "tollgate_alerts_unsent waiting": 0,
      "tollgate_alerts_unsent abandoned": 1,
      tollgate_alerts_oldest_waiting_age_seconds: 0,
      "tollgate_alert_deliveries_total sent": 0,
      "tollgate_alert_deliveries_total failed": 3,
      "tollgate_alert_deliveries_total abandoned": 1,
    });
  const environment = { DATABASE_URL: fixture.url, TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough" };
  const listed = await runCommand(["webhook", "list", "--json"], { environment });
  expect([listed.code, JSON.parse(listed.stdout)]).toEqual([
    1,
    expect.objectContaining({ id, state: "abandoned", attempts: 4, username: "user_1", threshold: "80%" }),
  ]);
  status = 200;
  expect(receiver.received).toHaveLength(4);
  expect(await runCommand(["webhook", "retry", id], { environment })).toMatchObject({ code: 0 });
  await expect.poll(() => stateOf(id)).toMatchObject({ state: 1, attempts: 1 });
  await expect
    .poll(() => metricsOf(counts))
    .toMatchObject({
      "tollgate_alerts_unsent abandoned": 0,
      "tollgate_alert_deliveries_total sent": 1,
    });
  expect(await runCommand(["webhook", "list"], { environment })).toEqual({ code: 0, stdout: "", stderr: "" });
  expect(await runCommand(["webhook", "retry", id], { environment })).toMatchObject({ code: 3 });
  await receiver.stop();
});

test("the metrics have the number of alerts that wait, and the age of the oldest", async () => {
  const ids = [await insert(), await insert()];
  await fixture
    .database("outbox")
    .update({ created_at: fixture.database.raw("now() - interval '1 hour'") })
    .where({ id: ids[0] });
  const metrics = await metricsOf({ sent: 0, failed: 0, abandoned: 0 });
  expect(metrics).toMatchObject({ "tollgate_alerts_unsent waiting": 2, "tollgate_alerts_unsent abandoned": 0 });
  const age = metrics["tollgate_alerts_oldest_waiting_age_seconds"];
  expect(age).toBeGreaterThanOrEqual(3600);
  expect(age).toBeLessThan(3700);
});

test("two servers send each alert once", async () => {
  const receiver = await startReceiver();
  const ids = await Promise.all(Array.from({ length: 40 }, () => insert()));
  for (let server = 0; server < 2; server += 1) start(receiver.url);
  await expect.poll(() => fixture.database("outbox").where({ state: 1 })).toHaveLength(ids.length);
  expect(receiver.received.map((one) => one.id).toSorted()).toEqual(ids.toSorted());
  await receiver.stop();
});

test("an alert of a server that died while it sent is sent by another one", async () => {
  const receiver = await startReceiver();
  const id = await insert();
  const dying = start(receiver.url, { send: () => new Promise(() => {}), schedule: { ...schedule, claimMs: 100 } });
  await expect.poll(() => stateOf(id)).toMatchObject({ attempts: 1 });
  running = running.filter((delivery) => delivery !== dying);
  start(receiver.url);
  await expect.poll(() => stateOf(id)).toMatchObject({ state: 1, attempts: 2 });
  await receiver.stop();
});

test("delays double with each attempt, up to the longest, and vary by half", async () => {
  const id = await insert();
  const delays: number[] = [];
  for (const [attempt, random] of [0, 0.999, 0, 0].entries()) {
    await fixture.database("outbox").update({ next_at: fixture.database.fn.now() });
    const failing = start("http://127.0.0.1:1/", { random: () => random, schedule: longSchedule });
    await expect.poll(() => stateOf(id)).toMatchObject({ attempts: attempt + 1, error: expect.stringMatching(/\S/) });
    await failing.stop();
    const { rows } = await fixture.database.raw(
      "select extract(epoch from next_at - now())::float8 as delay from outbox",
    );
    delays.push(rows[0].delay);
  }
  expect(delays.map((delay) => Math.round(delay / 50))).toEqual([10, 40, 40, 50]);
});

/** Delays of 1000, 2000, 4000, 5000 seconds before jitter: long, so that the test measures them exactly enough. */
const longSchedule = { pollMs: 3_600_000, firstMs: 1_000_000, mostMs: 5_000_000, attempts: 10 };

function start(url: string, options: Partial<DeliveryOptions> = {}): Delivery {
  const send: DeliveryOptions["send"] = (webhook) =>
    sendWebhook(webhook, { url, keys, timeoutMs: 5000, now: () => Date.now() });
  const logger = pino({ level: "silent" });
  const delivery = startDelivery({ database: fixture.database, logger, send, schedule, ...options });
  running.push(delivery);
  return delivery;
}

async function insert(): Promise<string> {
  const id = randomUUID();
  const window = { window_from: "2026-11-01", window_to: "2026-11-02", threshold: id };
  const alert = { id, user_id: 1, service: 2, method_group: 3, limit_name: "POINTS_PER_DAY", ...window, body } as const;
  await fixture.database.transaction((transaction) => insertAlerts(transaction, [alert]));
  return id;
}

/** The values of the metrics of alerts, by name and label. */
async function metricsOf(deliveries: DeliveryCounts): Promise<Record<string, unknown>> {
  const alerts = { deliveries, totals: () => countUnsentAlerts(fixture.database) };
  const values = await Promise.all(
    alertMetrics.map(async ({ name, read }) =>
      (await read({ alerts } as MetricSources)).map(({ labels, value }) => [
        [name, ...Object.values(labels)].join(" "),
        value,
      ]),
    ),
  );
  return Object.fromEntries(values.flat());
}

async function stateOf(id: string) {
  return fixture.database("outbox").where({ id }).first("state", "attempts", "error");
}

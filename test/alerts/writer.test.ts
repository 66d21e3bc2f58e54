import { randomUUID } from "node:crypto";
import pino from "pino";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { createAlertWriter } from "../../src/alerts/writer.ts";
import { createRollUp } from "../../src/audit/roll-up.ts";
import { createActionWriter } from "../../src/audit/writer.ts";
import type { LedgerEntry } from "../../src/quotas/ledger/entry.ts";
import { createLedger, type Ledger } from "../../src/quotas/ledger/ledger.ts";
import type { DayLimits } from "../../src/shared/alerts.ts";
import { dayMs, toIsoDay } from "../../src/shared/calendar.ts";
import { parseThresholds, type Thresholds } from "../../src/shared/thresholds.ts";
import { createUsageWriter } from "../../src/usage/writer.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const nowMs = Date.UTC(2026, 10, 24, 12);
const today = Math.floor(nowMs / dayMs);
const month = { from: Date.UTC(2026, 10, 1) / dayMs, to: Date.UTC(2026, 11, 1) / dayMs };
const ofDay = { pointsPerDay: 1000, pointsPerDateWindow: undefined, window: month };
const ofWindow = { pointsPerDay: 1_000_000, pointsPerDateWindow: 1000, window: month };

let fixture: TestDatabase;
beforeAll(async () => {
  fixture = await createTestDatabase();
});
afterAll(() => fixture.drop());
beforeEach(() => fixture.database.raw("truncate lease, charged_day, late_day, usage_day, audit_action, outbox"));

test("an alert is written exactly when a settlement reaches a threshold, 100 % at the last point", async () => {
  const ledger = openLedger(ofDay);
  const steps = [[799], [1, "80%"], [149], [1, "95%"], [49], [1, "100%"], [500]] as const;
  for (const [points, ...expected] of steps) {
    await fixture.database("outbox").delete();
    await settle(ledger, points);
    expect(await alerts()).toEqual(expected.map((threshold) => `POINTS_PER_DAY ${threshold}`));
  }
});

test("one settlement that reaches several thresholds writes each, and a window has each once", async () => {
  const ledger = openLedger(ofDay);
  await settle(ledger, 2000);
  expect(await alerts()).toEqual(["POINTS_PER_DAY 100%", "POINTS_PER_DAY 80%", "POINTS_PER_DAY 95%"]);
  const raised = openLedger({ ...ofDay, pointsPerDay: 2100 });
  await settle(raised, 100);
  expect(await alerts()).toHaveLength(3);
  await settle(ledger, 800, { day: today + 1 });
  expect(await alerts()).toHaveLength(4);
});

test("a settlement that is written again raises no second alert", async () => {
  const ledger = openLedger(ofDay);
  const operationId = randomUUID();
  await settle(ledger, 800, { operationId });
  await fixture.database("outbox").delete();
  await settle(ledger, 800, { operationId });
  expect(await alerts()).toEqual([]);
});

test("points of all days of a date window count, and those of other days and users do not", async () => {
  const ledger = openLedger(ofWindow);
  await settle(ledger, 5000, { day: month.from - 1 });
  await settle(ledger, 5000, { meter: { userId: 8, service: 2, methodGroup: 3 } });
  await fixture.database("outbox").delete();
  await settle(ledger, 799, { day: today - 1 });
  expect(await alerts()).toEqual([]);
  await settle(ledger, 1);
  expect(await alerts()).toEqual(["POINTS_PER_DATE_WINDOW 80%"]);
  // Two days in one batch.
  await Promise.all([settle(ledger, 100, { day: today - 1 }), settle(ledger, 100)]);
  expect(await alerts()).toEqual(["100%", "80%", "95%"].map((threshold) => `POINTS_PER_DATE_WINDOW ${threshold}`));
});

test("two servers that settle leases of different days at once raise the alert of their window", async () => {
  const ledgers = [openLedger(ofWindow), openLedger(ofWindow)] as const;
  const { settled } = await fixture.database.transaction(async (transaction) => {
    // Both statements meet these rows after they have begun, and wait.
    const charged = { user_id: 7, service: "2", method_group: "3" };
    const days = [today - 1, today].map((day) => ({ ...charged, day: toIsoDay(day), timezone: 0, points: 1 }));
    await transaction("charged_day").insert(days);
    const both = Promise.all([settle(ledgers[0], 400, { day: today - 1 }), settle(ledgers[1], 400)]);
    const waiting = async () => {
      // On another connection: within a transaction, the view does not change.
      const { rows } = await fixture.database.raw<{ rows: unknown[] }>(
        "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
      );
      return rows.length;
    };
    await expect.poll(waiting).toBe(2);
    await transaction("charged_day").where(charged).delete();
    // In an object: this transaction must end before they do.
    return { settled: both };
  });
  await settled;
  expect(await alerts()).toEqual(["POINTS_PER_DATE_WINDOW 80%"]);
});

test.each([
  ["of everyone, in points", "250", ["250"]],
  ["of the company", "80% company:acme=10%,300 company:other=20%", ["10%", "300"]],
  ["of the user before those of the company", "80% company:acme=10% user:user=40%", ["40%"]],
  ["that are off", "off", []],
  ["that are off for the user", "10% user:user=off", []],
])("thresholds %s apply", async (_name, text, expected) => {
  await settle(openLedger(ofDay, text), 400);
  expect(await alerts()).toEqual(expected.map((threshold) => `POINTS_PER_DAY ${threshold}`));
});

test("a limit of zero, and a day without limits, raise no alert", async () => {
  await settle(openLedger({ ...ofDay, pointsPerDay: 0 }), 5);
  await settle(openLedger(undefined), 5000);
  expect(await alerts()).toEqual([]);
});

test("an alert says which limit of whom was reached, and the audit log has it", async () => {
  const tracecode = randomUUID();
  await settle(openLedger(ofWindow, "50%"), 600, { tracecode });
  const [row] = await fixture.database("outbox").select("id", "body");
  expect(JSON.parse(row.body)).toEqual({
    type: "quota.threshold_reached",
    timestamp: "2026-11-24T12:00:00.000000Z",
    data: {
      username: "user",
      company_key: "acme",
      service: "ROUTING",
      method_group: "PLAN",
      limit: "POINTS_PER_DATE_WINDOW",
      from: "2026-11-01",
      to: "2026-12-01",
      limit_points: 1000,
      threshold: "50%",
      threshold_points: 500,
      used_points: 600,
      tracecode,
    },
  });
  const logged = await fixture.database("audit_action").where({ operation: "quota_alert" });
  expect(logged).toEqual([
    expect.objectContaining({ username: "user", company_key: "acme", tracecode, part: row.id, server: "test_server" }),
  ]);
  expect(logged[0]).toMatchObject({ resource: "ROUTING PLAN POINTS_PER_DATE_WINDOW 50%", points: null });
});

test("concurrent settlements on two servers raise each alert once", async () => {
  const ledgers = [openLedger({ ...ofWindow, pointsPerDay: 1000 }), openLedger({ ...ofWindow, pointsPerDay: 1000 })];
  await Promise.all(Array.from({ length: 100 }, (_none, index) => settle(ledgers[index % 2] as Ledger, 10)));
  expect(await alerts()).toEqual(
    ["POINTS_PER_DATE_WINDOW", "POINTS_PER_DAY"].flatMap((limit) =>
      ["100%", "80%", "95%"].map((threshold) => `${limit} ${threshold}`),
    ),
  );
  expect(await fixture.database("audit_action").where({ operation: "quota_alert" })).toHaveLength(6);
});

test.each(["", "80", "80%,", "0%", "-5", "80%;95%", "80% team:a=5%", "80% user:a", "80% user:a=b"])(
  "the text %j is read as thresholds or refused",
  (text) => {
    expect(parseThresholds(text) === undefined).toBe(text !== "80");
  },
);

function openLedger(limits: DayLimits | undefined, thresholds = "80%,95%,100%"): Ledger {
  const { database } = fixture;
  const logger = pino({ level: "silent" });
  const alertWriter = createAlertWriter({
    thresholds: parseThresholds(thresholds) as Thresholds,
    serverName: "test_server",
    limitsOf: async () => limits,
    scheduleDelivery: () => undefined,
  });
  return createLedger({
    database,
    logger,
    actions: createActionWriter(database, createRollUp({ database, logger })),
    usage: createUsageWriter(database),
    alerts: alertWriter,
    onContradiction: () => undefined,
  });
}

async function settle(ledger: Ledger, points: number, fields: Partial<LedgerEntry> = {}): Promise<void> {
  const about = { pointKeys: [], durationMs: 10, outcome: 1, operation: "run_plan", server: undefined };
  await ledger.commit({
    meter: { userId: 7, service: 2, methodGroup: 3 },
    username: "user",
    companyKey: "acme",
    operationId: randomUUID(),
    day: today,
    timezone: 0,
    points,
    grantedMs: nowMs,
    expireMs: nowMs + 60_000,
    tracecode: randomUUID(),
    holder: "planner",
    isHolderKnown: true,
    degraded: false,
    end: { state: "settled", endedMs: nowMs, points, ...about },
    ...fields,
  });
}

async function alerts(): Promise<string[]> {
  const rows = await fixture.database("outbox").select("limit_name", "threshold");
  return rows.map(({ limit_name: limit, threshold }) => `${limit} ${threshold}`).toSorted();
}

import { randomUUID } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import pino from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createRollUp, type RollUp } from "../../../src/audit/roll-up.ts";
import { createActionWriter } from "../../../src/audit/writer.ts";
import { type Database, openDatabase } from "../../../src/postgres/database.ts";
import { dropPartitions, ensurePartitions } from "../../../src/postgres/partitions.ts";
import type { Meter } from "../../../src/quotas/counters/engine.ts";
import { type LifecycleOptions, releaseLease, renewLease } from "../../../src/quotas/leases/lifecycle.ts";
import { dropChargedDays } from "../../../src/quotas/ledger/charged-days.ts";
import type { LedgerEntry } from "../../../src/quotas/ledger/entry.ts";
import { createLedger, type Ledger } from "../../../src/quotas/ledger/ledger.ts";
import { findLease, findMethods, readSnapshot } from "../../../src/quotas/ledger/read.ts";
import { verifyUsage } from "../../../src/quotas/ledger/verify.ts";
import { dayAt, dayMs } from "../../../src/shared/calendar.ts";
import { createRoundTrips } from "../../../src/shared/measures.ts";
import { createUsageWriter } from "../../../src/usage/writer.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";

const nowMs = Date.UTC(2026, 10, 24, 12);
const today = dayAt(nowMs, 0);
const month = { from: Date.UTC(2026, 10, 1) / dayMs, to: Date.UTC(2026, 11, 1) / dayMs };
const meter: Meter = { userId: 7, service: 2, methodGroup: 3 };
const logger = pino({ level: "silent" });
const remember = { ms: dayMs, operations: 100 };

let testDatabase: TestDatabase;
let ledger: Ledger;
const contradicted: Meter[] = [];
const onContradiction = (of: Meter) => void contradicted.push(of);
/** The tables that these tests read. */
const tables = "audit_pending, lease, usage_day, usage_point, charged_day, late_day, audit_action";
beforeAll(async () => {
  testDatabase = await createTestDatabase();
});
afterAll(() => testDatabase.drop());
beforeEach(async () => {
  contradicted.length = 0;
  await testDatabase.database.raw(`truncate ${tables}`);
  ledger = createLedger({ ...writersOf(testDatabase.database), onContradiction, logger });
});
afterEach(async () => {
  for (const rollUp of rollUps.splice(0)) await rollUp.stop();
  for (const database of openDatabases.splice(0)) await database.destroy();
});

const rollUps: RollUp[] = [];
function writersOf(database: Database) {
  const rollUp = createRollUp({ database, logger });
  rollUps.push(rollUp);
  return { database, actions: createActionWriter(database, rollUp), usage: createUsageWriter(database) };
}

const entry = (fields: Partial<LedgerEntry> = {}): LedgerEntry => ({
  meter,
  username: "user",
  companyKey: "company",
  operationId: randomUUID(),
  day: today,
  timezone: 0,
  points: 5,
  grantedMs: nowMs,
  expireMs: nowMs + 60_000,
  tracecode: randomUUID(),
  holder: "planner",
  isHolderKnown: true,
  degraded: false,
  end: { state: "granted" },
  ...fields,
});

const settled = (points: number, pointKeys: bigint[] = []): LedgerEntry["end"] => ({
  state: "settled",
  endedMs: nowMs,
  points,
  pointKeys,
  durationMs: 10,
  outcome: 1,
  operation: "run_plan",
  server: undefined,
});
const released: LedgerEntry["end"] = { state: "released", endedMs: nowMs };
const sumOf = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0);
const usage = () => testDatabase.database("usage_with_pending").select("requests", "points", "unique_points");

test("writes appended entries on flush, and committed entries before commit returns", async () => {
  const [appended, committed] = [entry(), entry()];
  ledger.append(appended);
  await ledger.flush();
  await ledger.commit(committed);
  const rows = await testDatabase.database("lease").select("operation_id", "state", "points", "holder");
  expect(rows.map(({ operation_id: id }) => id).toSorted()).toEqual(
    [appended.operationId, committed.operationId].toSorted(),
  );
  expect(rows[0]).toMatchObject({ state: 0, points: 5, holder: "planner" });
});

test.each<[string, LedgerEntry["end"][], number, number]>([
  ["granted, settled", [{ state: "granted" }, settled(3)], 2, 3],
  ["settled before its grant is written", [settled(3), { state: "granted" }], 2, 3],
  ["settled three times", [settled(3), settled(3), settled(3)], 2, 3],
  ["released, then settled", [{ state: "granted" }, released, settled(3)], 2, 3],
  ["settled, then released", [settled(3), released], 2, 3],
  ["released", [{ state: "granted" }, released, { state: "granted" }], 1, 0],
])("a lease that is %s ends in one state, in one batch and in several", async (_what, ends, state, points) => {
  const operations = [randomUUID(), randomUUID()];
  for (const end of ends) await ledger.commit(entry({ operationId: operations[0] as string, end }));
  await Promise.all(ends.map((end) => ledger.commit(entry({ operationId: operations[1] as string, end }))));
  expect((await testDatabase.database("lease").select("state")).map((row) => row.state)).toEqual([state, state]);
  expect(await usage()).toEqual(points === 0 ? [] : [{ requests: 2, points: 2 * points, unique_points: 0 }]);
});

describe("an operation that is granted again", () => {
  const operationId = randomUUID();
  const later = { operationId, grantedMs: nowMs + 1000, expireMs: nowMs + 90_000, points: 9, holder: "second" };
  const row = () =>
    testDatabase.database("lease").where({ operation_id: operationId }).first("state", "points", "holder", "ended_at");

  test.each(["in one batch", "in several batches"])(
    "runs again after a release, despite late entries: %s",
    async (how) => {
      const first = entry({ operationId });
      const entries = [first, { ...first, end: released }, entry(later), { ...first, end: released }, first];
      if (how === "in one batch") await Promise.all(entries.map((written) => ledger.commit(written)));
      else for (const written of entries) await ledger.commit(written);
      expect(await row()).toEqual({ state: 0, points: 9, holder: "second", ended_at: null });
      await ledger.commit(entry({ ...later, end: settled(7) }));
      expect(await row()).toMatchObject({ state: 2, points: 9 });
      expect(await usage()).toEqual([{ requests: 1, points: 7, unique_points: 0 }]);
      expect(contradicted).toEqual([]);
    },
  );

  const orders = [
    [0, 1, 2],
    [0, 2, 1],
    [2, 0, 1],
    [2, 1, 0],
    [1, 0, 2],
    [1, 2, 0],
  ];
  test.each(orders)(
    "that two servers granted in fail-open ends when the first server releases it: order %i %i %i",
    async (...order) => {
      const first = entry({ degraded: true });
      const second = { ...first, grantedMs: nowMs + 20, expireMs: nowMs + 60_020 };
      const entries = [
        first,
        { ...first, degraded: false, end: { ...released, endedMs: nowMs + 40 } },
        second,
      ] as const;
      for (const index of order) await ledger.commit(entries[index] as LedgerEntry);
      // A late renewal of the second server's grant changes nothing.
      await ledger.commit({ ...second, degraded: false, expireMs: nowMs + 90_000 });
      expect(await testDatabase.database("lease").select("state")).toEqual([{ state: 1 }]);

      const again = { ...first, degraded: false, grantedMs: nowMs + 40, expireMs: nowMs + 60_040 };
      await ledger.commit(again);
      expect(await testDatabase.database("lease").select("state", "expire_at")).toEqual([
        { state: 0, expire_at: new Date(again.expireMs) },
      ]);
    },
  );

  test.each(["in one batch", "in several batches"])(
    "stays settled, and a later grant is reported as a contradiction: %s",
    async (how) => {
      const entries = [entry({ operationId, end: settled(3) }), entry(later), entry({ ...later, end: settled(4) })];
      const outcomes = [];
      if (how === "in one batch")
        outcomes.push(...(await Promise.all(entries.map((written) => ledger.commit(written)))));
      else for (const written of entries) outcomes.push(await ledger.commit(written));
      const settlement = { points: 3, grantedMs: nowMs };
      expect(outcomes).toEqual([settlement, settlement, settlement]);
      expect(contradicted).toEqual([meter, meter]);
      expect(await usage()).toEqual([{ requests: 1, points: 3, unique_points: 0 }]);
      expect(await testDatabase.database("charged_day").select("points")).toEqual([{ points: 3 }]);
    },
  );
});

test("two writers that settle a lease differently both get the settlement that counts", async () => {
  const settlementEntry = entry({ end: settled(5) });
  const secondLedger = createLedger({ ...writersOf(testDatabase.database), onContradiction, logger });
  const outcomes = await Promise.all([
    ledger.commit(settlementEntry),
    secondLedger.commit({ ...settlementEntry, end: settled(7) }),
  ]);
  const [row] = await testDatabase.database("lease").select("settled_points");
  const settlement = { points: row?.settled_points, grantedMs: nowMs };
  expect(outcomes).toEqual([settlement, settlement]);
  expect(contradicted).toEqual([meter]);
  expect(await testDatabase.database("charged_day").select("points")).toEqual([{ points: row?.settled_points }]);
});

test("two servers that write the same entries concurrently count each operation and each point once", async () => {
  const secondDatabase = openDatabase({ url: testDatabase.url, poolSize: 5, statementTimeoutMs: 10_000 });
  const ledgers = [ledger, createLedger({ ...writersOf(secondDatabase), onContradiction, logger })];
  const operations = Array.from({ length: 300 }, () => randomUUID());
  const work = operations.flatMap((operationId, index) =>
    ledgers.flatMap((writer) => {
      // There are 40 distinct points; each operation has three of them.
      const keys = [0, 1, 2].map((step) => BigInt((index * 7 + step) % 40) - 20n);
      const end = settled(
        index % 5,
        keys.map((key) => BigInt.asUintN(64, key)),
      );
      return [
        writer.commit(entry({ operationId })),
        writer.commit(entry({ operationId, end })),
        writer.commit(entry({ operationId, end })),
      ];
    }),
  );
  await Promise.all(work);
  await secondDatabase.destroy();
  const points = operations.reduce((sum, _operation, index) => sum + (index % 5), 0);
  expect(await usage()).toEqual([{ requests: 300, points, unique_points: 40 }]);
  expect(await testDatabase.database("usage_point").count()).toEqual([{ count: 40 }]);
});

test("points that entries of several companies share are counted once, for the company that writes first", async () => {
  const secondDatabase = openDatabase({ url: testDatabase.url, poolSize: 5, statementTimeoutMs: 10_000 });
  const secondLedger = createLedger({ ...writersOf(secondDatabase), onContradiction, logger });
  const work = Array.from({ length: 300 }, (_none, index) => {
    const keys = [0, 1, 2].map((step) => BigInt((index * 7 + step) % 40));
    const companyKey = `company_${index % 3}`;
    const writer = index % 2 === 0 ? ledger : secondLedger;
    return writer.commit(entry({ companyKey, end: settled(2, keys) }));
  });
  await Promise.all(work);
  await secondDatabase.destroy();
  const rows = await usage();
  expect(rows.map(({ requests, points }) => `${requests} ${points}`)).toEqual(["100 200", "100 200", "100 200"]);
  expect(rows.reduce((sum, { unique_points: unique }) => sum + unique, 0)).toBe(40);
});

test("an entry that cannot be written fails alone, and the rest of its batch is written", async () => {
  const invalid = entry({ tracecode: "no uuid" });
  const valid = Array.from({ length: 20 }, () => entry());
  const results = await Promise.allSettled(
    [...valid.slice(0, 7), invalid, ...valid.slice(7)].map((written) => ledger.commit(written)),
  );
  expect(results.filter(({ status }) => status === "rejected").length).toBe(1);
  expect(results[7]?.status).toBe("rejected");
  expect(await testDatabase.database("lease").count()).toEqual([{ count: 20 }]);
});

test("the queue fills while PostgreSQL does not write, refuses commits when full, and is written afterwards", async () => {
  await ledger.commit(entry());
  const small = createLedger({
    ...writersOf(testDatabase.database),
    onContradiction,
    logger,
    capacity: 3,
    commitTimeoutMs: 100,
  });
  const lock = await testDatabase.database.transaction();
  await lock.raw("lock table lease in exclusive mode");
  const late = small.commit(entry()).catch((error: unknown) => ConnectError.from(error).code);
  small.append(entry());
  expect(small.hasRoom()).toBe(true);
  small.append(entry());
  expect(small.hasRoom()).toBe(false);
  await expect(small.commit(entry())).rejects.toMatchObject({ code: Code.Unavailable });
  // A grant that the caller already has is queued beyond the capacity.
  small.append(entry());
  expect(await late).toBe(Code.Unavailable);
  await lock.rollback();
  await small.flush();
  expect(small.hasRoom()).toBe(true);
  expect(await testDatabase.database("lease").count()).toEqual([{ count: 5 }]);
});

test("a settlement that is written after its caller was refused corrects the counters, which may lack it by then", async () => {
  const [grant, settlement] = [entry(), entry({ end: settled(3) })];
  const corrected: Meter[] = [];
  const slow = createLedger({
    ...writersOf(testDatabase.database),
    onContradiction,
    onLateSettlement: (late) => void corrected.push(late),
    logger,
    commitTimeoutMs: 100,
  });
  const lock = await testDatabase.database.transaction();
  await lock.raw("lock table lease in exclusive mode");
  for (const late of [grant, settlement]) {
    await expect(slow.commit(late)).rejects.toMatchObject({ code: Code.Unavailable });
  }
  expect(corrected).toEqual([]);
  await lock.rollback();
  await slow.flush();
  expect(corrected).toEqual([settlement.meter]);
});

test("holds 20,000 entries by default while PostgreSQL does not write", async () => {
  await ledger.commit(entry());
  const lock = await testDatabase.database.transaction();
  await lock.raw("lock table lease in exclusive mode");
  const append = (count: number) => {
    for (let times = 0; times < count; times += 1) ledger.append(entry());
  };
  append(19_999);
  expect(ledger.hasRoom()).toBe(true);
  append(1);
  expect(ledger.hasRoom()).toBe(false);
  await lock.rollback();
  await ledger.flush();
  expect(await testDatabase.database("lease").count()).toEqual([{ count: 20_001 }]);
});

test("writes every entry although its connections are cut repeatedly", async () => {
  await ledger.commit(entry());
  const own = openOwnDatabase();
  const cutConnections = () =>
    own.raw(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
    );
  const work = Promise.allSettled(Array.from({ length: 2000 }, () => ledger.commit(entry())));
  for (let times = 0; times < 5; times += 1) await cutConnections();
  await work;
  await ledger.flush();
  // The test's other connections were cut, too.
  expect(await own("lease").count()).toEqual([{ count: 2001 }]);
});

test("creates partitions for days far back and far ahead, and drops old ones", async () => {
  await ledger.commit(entry({ day: today - 1000, end: settled(1, [1n]) }));
  await ledger.commit(entry({ day: today + 1000 }));
  await Promise.all([1, 2, 3].map(() => ensurePartitions(openOwnDatabase(), "lease", new Set([today + 1, today + 2]))));
  await dropPartitions(testDatabase.database, "lease", today);
  const rows = await testDatabase.database("lease").select(testDatabase.database.raw("day - date '1970-01-01' as day"));
  expect(rows).toEqual([{ day: today + 1000 }]);
});

test("a snapshot holds the running leases, the recently ended ones, and the sums", async () => {
  const running = entry();
  const yesterday = entry({ day: today - 1, end: settled(4) });
  const lastMonth = entry({
    day: month.from - 1,
    end: { ...settled(100), endedMs: nowMs - 2 * dayMs } as LedgerEntry["end"],
  });
  const releasedLease = entry({ end: released });
  const done = entry({ end: settled(3) });
  const otherMeter = entry({ meter: { ...meter, methodGroup: 4 }, end: settled(9) });
  await Promise.all(
    [running, yesterday, lastMonth, releasedLease, done, otherMeter].map((written) => ledger.commit(written)),
  );
  const snapshot = await readSnapshot(testDatabase.database, meter, {
    nowMs,
    day: today,
    window: month,
    timezone: 0,
    remember,
  });
  expect(snapshot).toMatchObject({ day: today, timezone: 0, window: month, dayUsed: 3, windowUsed: 7 });
  const states = snapshot.leases.map(({ operationId, state, settledPoints }) => [operationId, state, settledPoints]);
  expect(states).toEqual(
    expect.arrayContaining([
      [running.operationId, "active", undefined],
      [yesterday.operationId, "settled", 4],
      [releasedLease.operationId, "released", undefined],
      [done.operationId, "settled", 3],
    ]),
  );
  expect(states.length).toBe(4);
  expect(snapshot.leases.find(({ operationId }) => operationId === running.operationId)).toEqual({
    operationId: running.operationId,
    day: today,
    timezone: 0,
    points: 5,
    state: "active",
    grantedMs: nowMs,
    expireMs: nowMs + 60_000,
    endedMs: undefined,
    settledPoints: undefined,
    holder: `${running.tracecode} planner company`,
  });
});

test("a snapshot holds leases of past days that still run or ended recently", async () => {
  const old = (days: number) => ({ day: today - days, grantedMs: nowMs - days * dayMs });
  const renewed = entry(old(20));
  const late = entry({ ...old(30), end: { ...settled(3), endedMs: nowMs - 1000 } as LedgerEntry["end"] });
  const expired = entry({ ...old(25), expireMs: nowMs - 24 * dayMs });
  const releasedLease = entry({ ...old(3), end: { ...released, endedMs: nowMs - 1000 } as LedgerEntry["end"] });
  // The last entry of each day makes it a late day.
  await ledger.commit({ ...renewed, expireMs: renewed.grantedMs + 60_000 });
  await Promise.all([renewed, late, expired, releasedLease].map((written) => ledger.commit(written)));
  const of = { nowMs, day: today, window: month, timezone: 0, remember };
  const found = (await readSnapshot(testDatabase.database, meter, of)).leases.map(({ operationId }) => operationId);
  expect(found.toSorted()).toEqual([renewed, late, releasedLease].map(({ operationId }) => operationId).toSorted());
  await dropChargedDays(testDatabase.database, nowMs);
  expect(await testDatabase.database("late_day")).toEqual([]);
});

test("writes an appended entry without a flush, and writes the row of a short calculation once", async () => {
  const [alone, short] = [entry(), entry()];
  ledger.append(alone);
  const written = () => testDatabase.database("lease").where({ operation_id: alone.operationId }).select("state");
  await expect.poll(written, { timeout: 5000 }).toEqual([{ state: 0 }]);
  const holdingLedger = createLedger({ ...writersOf(testDatabase.database), onContradiction, logger, holdMs: 600_000 });
  holdingLedger.append(short);
  for (let turn = 0; turn < 3; turn += 1) await nextTurn();
  await holdingLedger.commit({ ...short, end: settled(3) });
  // A second version of the row would have another ctid.
  expect(await testDatabase.database("lease").orderBy("ctid").select("state", "ctid")).toEqual([
    { state: 0, ctid: "(0,1)" },
    { state: 2, ctid: "(0,2)" },
  ]);
});

test("holds a grant back while settlements of others are written, and writes it on flush", async () => {
  const [held, other] = [entry(), entry({ end: settled(3) })];
  const holdingLedger = createLedger({ ...writersOf(testDatabase.database), onContradiction, logger, holdMs: 600_000 });
  holdingLedger.append(held);
  await holdingLedger.commit(other);
  const written = () => testDatabase.database("lease").orderBy("state").select("operation_id", "state");
  expect(await written()).toEqual([{ operation_id: other.operationId, state: 2 }]);
  expect([holdingLedger.pending(), holdingLedger.oldestMs() > 0]).toEqual([1, true]);
  await holdingLedger.flush();
  expect(await written()).toEqual([
    { operation_id: held.operationId, state: 0 },
    { operation_id: other.operationId, state: 2 },
  ]);
});

test("settles while another server raises the statistics of the user", async () => {
  await testDatabase.database.transaction(async (other) => {
    await other.raw("lock table usage_day in exclusive mode");
    await ledger.commit(entry({ end: settled(3, [1n]) }));
  });
  expect(await usage()).toEqual([{ requests: 1, points: 3, unique_points: 1 }]);
});

test("charges the day before it stores points, as settlements with alerts do", async () => {
  await ledger.commit(entry({ end: settled(3, [2n]) }));
  const [charged] = await testDatabase.database("charged_day");
  const { user_id, service, method_group, day } = charged;
  let settling: Promise<unknown> = Promise.resolve();
  await testDatabase.database.transaction(async (other) => {
    await other("usage_point").insert({ user_id, service, method_group, date: day, point_key: 1 });
    settling = ledger.commit(entry({ end: settled(2, [1n]) }));
    const waiting = async () => {
      const { rows } = await testDatabase.database.raw(
        "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
      );
      return rows.length;
    };
    await expect.poll(waiting).toBe(1);
    expect(await other("charged_day").forUpdate().skipLocked()).toEqual([]);
  });
  await settling;
  // The other transaction has stored the point.
  expect(await usage()).toEqual([{ requests: 2, points: 5, unique_points: 1 }]);
});

test("writes a batch of settlements in one round trip, with its statistics and audit actions", async () => {
  await ledger.commit(entry({ end: settled(1, [5n]) }));
  const roundTrips = createRoundTrips();
  const counted = openDatabase({ url: testDatabase.url, poolSize: 1, statementTimeoutMs: 10_000, roundTrips });
  openDatabases.push(counted);
  const writers = { ...writersOf(testDatabase.database), database: counted };
  const countingLedger = createLedger({ ...writers, onContradiction, logger });
  await countingLedger.commit(entry({ end: settled(1, [5n]) }));
  const before = sumOf(roundTrips.seconds.counts);
  const ends = [settled(2, [5n, 6n]), settled(3, [6n]), settled(4)];
  await Promise.all(ends.map((end) => countingLedger.commit(entry({ end }))));
  expect(sumOf(roundTrips.seconds.counts) - before).toBe(1);
  expect(await usage()).toEqual([{ requests: 5, points: 11, unique_points: 2 }]);
  const actions = await testDatabase.database("audit_action").orderBy("points").select("points", "server", "operation");
  expect(actions).toEqual([1, 1, 2, 3, 4].map((points) => ({ points, server: "planner", operation: "run_plan" })));
});

test("splits a batch that takes longer than the statement timeout", async () => {
  await ledger.commit(entry());
  await testDatabase.database.raw(`
    create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.05); return new; end $$;
    create trigger slow before insert on lease for each row execute function slow()`);
  const shortTimeout = openDatabase({ url: testDatabase.url, poolSize: 2, statementTimeoutMs: 250 });
  openDatabases.push(shortTimeout);
  const slow = createLedger({ ...writersOf(shortTimeout), onContradiction, logger });
  await Promise.all(Array.from({ length: 12 }, () => slow.commit(entry({ end: settled(1) }))));
  await testDatabase.database.raw("drop function slow cascade");
  expect(await usage()).toEqual([{ requests: 12, points: 12, unique_points: 0 }]);
});

test("counts each point once when a settlement has more points than one statement takes", async () => {
  const keys = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => BigInt(from + index));
  ledger.append(entry({ end: settled(1, keys(0, 30_000)) }));
  ledger.append(entry({ end: settled(1, [...keys(10_000, 35_000), ...keys(0, 5000)]) }));
  await ledger.flush();
  expect(await usage()).toEqual([{ requests: 2, points: 2, unique_points: 35_000 }]);
});

test.each([
  ["settled", settled(3), 3],
  ["released", released, 0],
])("a snapshot continues a day that has not ended at the offset of its %s lease", async (_what, end, dayUsed) => {
  // At noon UTC it is already the 25th at UTC+12. The user's timezone changes from UTC+12 to UTC.
  await ledger.commit(entry({ day: today + 1, timezone: 12, end }));
  const of = { nowMs, day: today, window: month, timezone: 0, remember };
  expect(await readSnapshot(testDatabase.database, meter, of)).toMatchObject({
    day: today + 1,
    timezone: 12,
    dayUsed,
  });
  const laterMs = nowMs + 36 * 3_600_000;
  expect(await readSnapshot(testDatabase.database, meter, { ...of, nowMs: laterMs, day: today + 2 })).toMatchObject({
    day: today + 2,
    dayUsed: 0,
  });
});

test("finds a lease by the key in its id, and the methods with running leases", async () => {
  const granted = entry();
  await ledger.commit(granted);
  const { userId, service, methodGroup } = meter;
  const key = { userId, service, methodGroup, day: today, operationId: granted.operationId };
  expect(await findLease(testDatabase.database, key)).toMatchObject({
    companyKey: "company",
    username: "user",
    lease: { points: 5, timezone: 0 },
  });
  expect(await findLease(testDatabase.database, { ...key, day: today + 1 })).toBeUndefined();
  expect(await findMethods(testDatabase.database, 7, nowMs)).toEqual([{ service: 2, methodGroup: 3 }]);
  expect(await findMethods(testDatabase.database, 7, nowMs + 60_000)).toEqual([]);
});

const openDatabases: ReturnType<typeof openDatabase>[] = [];
function openOwnDatabase() {
  const database = openDatabase({ url: testDatabase.url, poolSize: 2, statementTimeoutMs: 10_000 });
  openDatabases.push(database);
  return database;
}

describe("verifyUsage", () => {
  const date = new Date(today * 86_400_000).toISOString().slice(0, 10);
  const next = new Date((today + 1) * 86_400_000).toISOString().slice(0, 10);
  /** Does what the roll-up does: a trigger adds the usage of deleted rows to usage_day. */
  const moveUsage = () => testDatabase.database("audit_pending").delete();
  const verify = () => verifyUsage(testDatabase.database, { from: date, to: next, today: date });
  beforeEach(async () => {
    ledger.append(entry({ end: settled(3, [1n, 2n, 2n]) }));
    ledger.append(entry({ end: settled(2, [2n, 3n]) }));
    ledger.append(entry({ end: released }));
    ledger.append(entry());
    await ledger.flush();
    await moveUsage();
  });

  test("reports nothing after the ledger's own writes", async () => {
    expect(await verify()).toEqual({ compared: 1, differences: [] });
  });

  test.each<[string, string, object]>([
    ["requests", "update usage_day set requests = 3", { usage: [3, 5, 3], ledger: [2, 5, 3] }],
    ["points", "update usage_day set points = 6", { usage: [2, 6, 3], ledger: [2, 5, 3] }],
    ["unique points", "update usage_day set unique_points = 2", { usage: [2, 5, 2], ledger: [2, 5, 3] }],
    ["a missing row", "delete from usage_day", { usage: null, ledger: [2, 5, 3] }],
    ["missing leases", "delete from lease", { usage: [2, 5, 3], ledger: null }],
  ])("reports a difference of %s", async (_what, statement, numbers) => {
    await testDatabase.database.raw(statement);
    expect(await verify()).toMatchObject({ compared: 1, differences: [{ date, username: "user", ...numbers }] });
  });

  test("adds pending usage, also of a user who was renamed that day", async () => {
    await testDatabase.database.raw("update usage_day set requests = 1, points = 3");
    expect((await verify()).differences).toHaveLength(1);
    await testDatabase.database.raw(
      `insert into audit_pending (
         starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, usage_days, requests,
         points, unique_points
       )
       select array[now()], array[user_id], array['renamed'], array[company_key], array[service], array[method_group],
         array['run_plan'], array[1], array[date], array[1], array[2], array[0]
       from usage_day`,
    );
    expect(await verify()).toEqual({ compared: 1, differences: [] });
  });

  describe("for a user who changed the company that day", () => {
    const moved = { companyKey: "next" };
    beforeEach(async () => {
      ledger.append(entry({ ...moved, end: settled(7, [3n, 4n]) }));
      ledger.append(entry({ ...moved, end: settled(1, [4n, 5n, 5n]) }));
      await ledger.flush();
      await moveUsage();
    });

    test("compares the usage of each company", async () => {
      const columns = ["company_key", "requests", "points", "unique_points"];
      expect(await testDatabase.database("usage_day").select(columns).orderBy("company_key")).toEqual([
        { company_key: "company", requests: 2, points: 5, unique_points: 3 },
        { company_key: "next", requests: 2, points: 8, unique_points: 2 },
      ]);
      expect(await verify()).toEqual({ compared: 2, differences: [] });
      await testDatabase.database("usage_day").where({ company_key: "next" }).update({ points: 9, unique_points: 3 });
      expect(await verify()).toMatchObject({
        compared: 2,
        differences: [
          // The ledger cannot tell which company has one point too many, so both are reported.
          { company_key: "company", usage: [2, 5, 3], ledger: [2, 5, 2] },
          { company_key: "next", usage: [2, 9, 3], ledger: [2, 8, 2] },
        ],
      });
    });

    test("compares the sum of the companies when an earlier version counted everything for the first", async () => {
      await testDatabase.database("usage_day").where({ company_key: "next" }).delete();
      await testDatabase.database("usage_day").update({ requests: 4, points: 13, unique_points: 5 });
      expect(await verify()).toEqual({ compared: 1, differences: [] });
      await testDatabase.database("usage_day").update({ points: 12 });
      expect((await verify()).differences).toMatchObject([
        { company_key: null, usage: [4, 12, 5], ledger: [4, 13, 5] },
      ]);
    });
  });

  test("compares the given days only", async () => {
    await testDatabase.database.raw("update usage_day set points = 6");
    expect(await verifyUsage(testDatabase.database, { from: next, to: "9999-12-31", today: date })).toEqual({
      compared: 0,
      differences: [],
    });
  });
});

test("merges waiting entries of one lease, and fails calls beyond the capacity with UNAVAILABLE", async () => {
  const small = createLedger({
    ...writersOf(testDatabase.database),
    logger,
    onContradiction: () => undefined,
    capacity: 3,
  });
  const lock = await testDatabase.database.transaction();
  await lock.raw("lock table lease in access exclusive mode");
  const renewed = entry();
  for (let renewal = 0; renewal < 1000; renewal += 1) {
    small.append({ ...renewed, expireMs: renewed.expireMs + renewal });
    if (renewal % 100 === 0) await new Promise(setImmediate);
  }
  // One entry is being written, one waits.
  expect([small.pending(), small.hasRoom()]).toEqual([expect.toSatisfy((count) => count <= 2), true]);
  small.append(entry());
  small.append(entry());
  const options = { ledger: small } as unknown as LifecycleOptions;
  const caller = { username: "planner", tracecode: randomUUID() };
  for (const call of [renewLease(options, "any", 1000, caller), releaseLease(options, "any", caller)]) {
    await expect(call).rejects.toMatchObject({ code: Code.Unavailable });
  }
  await lock.rollback();
  await small.flush();
  const rows = await testDatabase.database("lease").where({ operation_id: renewed.operationId }).select("expire_at");
  expect(rows).toEqual([{ expire_at: new Date(renewed.expireMs + 999) }]);
});

test("the first of two settlements of a lease in one batch counts, both callers get it, and the meter is reported", async () => {
  const contradicted: Meter[] = [];
  const reportingLedger = createLedger({
    ...writersOf(testDatabase.database),
    logger,
    onContradiction: (reported) => void contradicted.push(reported),
  });
  const lease = entry();
  const commits = [3, 4].map((points) => reportingLedger.commit({ ...lease, end: settled(points) }));
  expect((await Promise.all(commits)).map((settlement) => settlement?.points)).toEqual([3, 3]);
  expect(contradicted).toEqual([lease.meter]);
});

test.each(["in one batch", "one after the other"])(
  "a settlement without the holder of the later grant keeps the company and tracecode of the lease, %s",
  async (order) => {
    const first = entry({ companyKey: "company_of_grant" });
    // The counters granted the operation again. That entry was lost, and the counters no longer have its holder.
    const settlement = {
      ...first,
      grantedMs: nowMs + 90_000,
      companyKey: "company_of_now",
      tracecode: randomUUID(),
      holder: "settler",
      isHolderKnown: false,
      end: settled(3),
    };
    ledger.append(first);
    if (order === "one after the other") await ledger.flush();
    await ledger.commit(settlement);
    const columns = ["company_key", "tracecode", "holder", "settled_points"] as const;
    expect(await testDatabase.database("lease").select(...columns)).toEqual([
      { company_key: "company_of_grant", tracecode: first.tracecode, holder: "planner", settled_points: 3 },
    ]);
    expect(await testDatabase.database("audit_action").select("company_key", "tracecode")).toEqual([
      { company_key: "company_of_grant", tracecode: first.tracecode },
    ]);
  },
);

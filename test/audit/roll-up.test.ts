import { setTimeout as wait } from "node:timers/promises";
import pino from "pino";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createRollUp } from "../../src/audit/roll-up.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let fixture: TestDatabase;
beforeEach(async () => {
  fixture = await createTestDatabase({ statementTimeoutMs: 500 });
});
afterEach(() => fixture.drop());

/** Inserts pending totals as a large import does: nearly every cell is unique. */
async function insertPending(batches: number, cells: number): Promise<void> {
  await fixture.database.transaction(async (transaction) => {
    await transaction.raw("set local statement_timeout = 0");
    await transaction.raw(
      `insert into audit_pending (
         starts, user_ids, usernames, company_keys, services, method_groups, operations, totals
       )
       select array_agg(timestamptz '2026-10-10 00:00Z' - number * interval '1 hour'), array_agg(number),
         array_agg('user_' || number), array_agg('company_' || number), array_agg(2::smallint),
         array_agg(3::smallint), array_agg('run_plan'::text), array_agg(1::bigint)
       from (
         select batch, batch * ?::integer + cell as number
         from generate_series(1, ?::integer) as batch, generate_series(1, ?::integer) as cell
       ) as waiting
       group by batch`,
      [cells, batches, cells],
    );
  });
}

test("moves pending totals in parts when all would exceed the statement timeout", { timeout: 60_000 }, async () => {
  await insertPending(200, 100);
  const lines: string[] = [];
  const rollUp = createRollUp({ database: fixture.database, logger: pino({}, { write: (line) => lines.push(line) }) });
  await rollUp.stop();
  expect(lines).toEqual([]);
  expect(await fixture.database("audit_pending").count()).toEqual([{ count: 0 }]);
  const ofAll = fixture.database("audit_total").where({ level: 0, span: 1 });
  expect(await ofAll.select(fixture.database.raw("sum(total)::integer as total"))).toEqual([{ total: 20_000 }]);
});

test("stops after the move that is running", async () => {
  const { database } = fixture;
  await insertPending(200, 100);
  const rollUp = createRollUp({ database, logger: pino({ level: "silent" }), delayMs: 1 });
  const moves =
    "select 1 from pg_stat_activity where datname = current_database() and state = 'active' and query like '%with moved as%' and pid <> pg_backend_pid()";
  await expect.poll(async () => (await database.raw(moves)).rows.length, { interval: 1 }).toBe(1);
  rollUp.scheduleRollUp();
  // Timers of equal delay end in order.
  await wait(1);
  await rollUp.stop();
  expect(await database("audit_pending").count()).toEqual([{ count: 0 }]);
});

describe("moves pending totals later", () => {
  /** Runs a roll-up beside a transaction with a lock, until `isTried`. Returns what is pending some time after the transaction. */
  async function moveBeside(lock: string, isTried: (logged: readonly string[]) => Promise<boolean> | boolean) {
    const { database } = fixture;
    const lines: string[] = [];
    await insertPending(1, 1);
    const other = await database.transaction();
    await other.raw(lock);
    const logger = pino({}, { write: (line) => lines.push(line) });
    const rollUp = createRollUp({ database, logger, delayMs: 1 });
    try {
      await expect.poll(() => isTried(lines), { timeout: 10_000, interval: 5 }).toBe(true);
      await other.rollback();
      const pending = async () => Number((await database("audit_pending").count().first())?.count);
      return await vi.waitUntil(async () => (await pending()) === 0, { timeout: 10_000 }).then(() => 0, pending);
    } finally {
      if (!other.isCompleted()) await other.rollback();
      await rollUp.stop();
    }
  }

  test("when another server moves some", async () => {
    const tries =
      "select 1 from pg_stat_activity where datname = current_database() and query like 'select pg_try_advisory_xact_lock%'";
    const isTried = async () => (await fixture.database.raw(tries)).rows.length > 0;
    expect(await moveBeside("select pg_advisory_xact_lock(7043007)", isTried)).toBe(0);
  });

  test("when a move has failed", async () => {
    expect(await moveBeside("lock table audit_total in exclusive mode", (lines) => lines.length > 0)).toBe(0);
  });
});

describe("pending usage", () => {
  const date = "2026-10-10";
  const usage = (table: string) =>
    fixture.database(table).select("date", "username", "company_key", "requests", "points", "unique_points");
  /** A batch: recorded actions of two operations, the action of a settlement, and its usage with two unique points. */
  const insert = () =>
    fixture.database.raw(
      `insert into audit_pending (
         starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, usage_days, requests,
         points, unique_points
       )
       select array_fill(timestamptz '2026-10-10 01:00Z', '{4}'), '{7,7,7,7}', '{ann,ann,ann,ann}',
         '{acme,acme,acme,acme}', '{2,2,2,2}', '{3,3,3,3}', '{run_plan,run_route,settle_lease,""}', '{2,1,1,0}',
         array[?, ?, null, ?]::date[], '{2,1,0,1}', '{10,5,null,4}', '{0,0,0,2}'`,
      [date, date, date],
    );
  const added = { date, username: "ann", company_key: "acme", requests: 4, points: 19, unique_points: 2 };

  test("is added once, and is in the view before and after", async () => {
    const { database } = fixture;
    await database("usage_day").insert({ user_id: 7, service: 2, method_group: 3, ...added });
    await insert();
    const sum = { ...added, requests: 8, points: 38, unique_points: 4 };
    expect([await usage("usage_day"), await usage("usage_with_pending")]).toEqual([[added], [sum]]);
    await createRollUp({ database, logger: pino({ level: "silent" }) }).stop();
    expect([await usage("usage_day"), await usage("usage_with_pending")]).toEqual([[sum], [sum]]);
    expect(
      await database("audit_total").where({ level: 0, span: 24 }).orderBy("operation").select("operation", "total"),
    ).toEqual([
      { operation: "run_plan", total: 2 },
      { operation: "run_route", total: 1 },
      { operation: "settle_lease", total: 1 },
    ]);
  });

  test("is added too when a server of the last release moves the counts", async () => {
    await insert();
    // Its statement knows the counts alone.
    await fixture.database("audit_pending").delete();
    expect([await usage("usage_day"), await usage("usage_with_pending")]).toEqual([[added], [added]]);
  });

  test("is none in the counts of a server of the last release", async () => {
    await insertPending(2, 3);
    expect(await usage("usage_with_pending")).toEqual([]);
    await createRollUp({ database: fixture.database, logger: pino({ level: "silent" }) }).stop();
    expect(await usage("usage_day")).toEqual([]);
  });
});

test("raises totals without growth of their indexes", async () => {
  const { database } = fixture;
  const rollUp = createRollUp({ database, logger: pino({ level: "silent" }) });
  const move = async () => {
    await insertPending(5, 100);
    await rollUp.stop();
    const { rows } = await database.raw("select pg_indexes_size('audit_total') as bytes");
    return rows[0].bytes;
  };
  const bytes = await move();
  // Once only. A later raise needs the room of dead versions, which PostgreSQL keeps while a transaction of another test runs.
  expect(await move()).toBe(bytes);
  const ofAll = database("audit_total").where({ level: 0, span: 1 });
  expect(await ofAll.select(database.raw("sum(total)::integer as total"))).toEqual([{ total: 1000 }]);
});

import pino from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { dropAuditTotals } from "../../src/audit/roll-up.ts";
import { openDatabase } from "../../src/postgres/database.ts";
import { ensurePartitions } from "../../src/postgres/partitions.ts";
import { startRetention } from "../../src/postgres/retention.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const today = Math.floor(Date.UTC(2026, 10, 24) / 86_400_000);

let fixture: TestDatabase;
beforeEach(async () => {
  fixture = await createTestDatabase();
});
afterEach(() => fixture.drop());

test("logs the failure of one table and maintains the others", async () => {
  const lines: string[] = [];
  const logger = pino({ level: "warn" }, { write: (line) => lines.push(line) });
  await ensurePartitions(fixture.database, "audit_action", new Set([today - 100]));
  const stop = startRetention({ database: fixture.database, logger, now: () => today * 86_400_000 }, [
    { table: "lease", days: 40, deleteDependents: () => Promise.reject(new Error("cannot be deleted")) },
    { table: "audit_action", days: 40 },
  ]);
  const count = async (table: string) => {
    const found = await fixture.database("pg_inherits").whereRaw("inhparent = ?::regclass", [table]).count().first();
    return Number(found?.["count"]);
  };
  await expect.poll(() => count("audit_action")).toBe(5);
  stop();
  expect(await count("lease")).toBe(5);
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { table: "lease", err: { message: "cannot be deleted" } },
  ]);
});

test("removes a long backlog after the retention was shortened", async () => {
  const dayMs = 86_400_000;
  await fixture.database.raw(
    `do $$ begin for day in 0..99 loop
       execute format('create table audit_action_%s partition of audit_action for values from (%L) to (%L)',
         to_char(date '2026-07-01' + day, 'YYYYMMDD'), (date '2026-07-01' + day) || ' 00:00+00',
         (date '2026-07-01' + day + 1) || ' 00:00+00');
     end loop; end $$`,
  );
  await fixture.database.raw(
    `insert into audit_total (level, name, span, start, user_id, company_key, service, method_group, operation, total)
     select 2, 'user', 24, timestamptz '2026-07-01 00:00+00', id, 'company', 1, 3, 'operation', 1
     from generate_series(1, 20000) as id`,
  );
  // A slow disk: deleting all rows in one statement would exceed the timeout.
  await fixture.database.raw(
    `create function take_long() returns trigger language plpgsql as $$
     begin perform pg_sleep((select count(*) from gone) / 10000.0); return null; end $$`,
  );
  await fixture.database.raw(
    "create trigger slow after delete on audit_total referencing old table as gone execute function take_long()",
  );
  const database = openDatabase({ url: fixture.url, poolSize: 3, statementTimeoutMs: 1500 });
  const logged: string[] = [];
  const logger = pino({ level: "warn" }, { write: (line) => logged.push(line) });
  const beforeMs = Date.UTC(2026, 10, 24) - 40 * dayMs;
  const stop = startRetention({ database, logger, now: () => Date.UTC(2026, 10, 24) }, [
    { table: "audit_action", days: 40, deleteDependents: () => dropAuditTotals(database, beforeMs) },
  ]);
  const left = async () => {
    const days = await fixture.database("pg_inherits").whereRaw("inhparent = 'audit_action'::regclass").count().first();
    const totals = await fixture.database("audit_total").count().first();
    return { days: Number(days?.["count"]), totals: Number(totals?.["count"]) };
  };
  await expect.poll(left, { timeout: 60_000 }).toEqual({ days: 5, totals: 0 });
  stop();
  expect(logged).toEqual([]);
  await database.destroy();
}, 120_000);

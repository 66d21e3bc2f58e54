import pino from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
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

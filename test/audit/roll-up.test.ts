import pino from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createRollUp } from "../../src/audit/roll-up.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let stand: TestDatabase;
beforeEach(async () => {
  stand = await createTestDatabase({ statementTimeoutMs: 500 });
});
afterEach(() => stand.drop());

/** As a large import leaves them: hardly any cell is twice. */
async function leave(batches: number, cells: number): Promise<void> {
  await stand.database.transaction(async (transaction) => {
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

test("more than can be moved within the time limit of a statement is moved in parts", { timeout: 60_000 }, async () => {
  await leave(200, 100);
  const lines: string[] = [];
  const rollUp = createRollUp({ database: stand.database, logger: pino({}, { write: (line) => lines.push(line) }) });
  await rollUp.stop();
  expect(lines).toEqual([]);
  expect(await stand.database("audit_pending").count()).toEqual([{ count: 0 }]);
  const ofAll = stand.database("audit_total").where({ level: 0, span: 1 });
  expect(await ofAll.select(stand.database.raw("sum(total)::integer as total"))).toEqual([{ total: 20_000 }]);
});

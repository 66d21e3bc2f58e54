import type { Knex } from "knex";
import { afterAll, beforeAll, expect, test } from "vitest";
import { filterActions, filterFirstActions } from "../../src/audit/matching.ts";
import type { ActionFilter } from "../../src/audit/selection.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let fixture: TestDatabase;
beforeAll(async () => {
  fixture = await createTestDatabase();
  await fixture.database.raw(
    "create table audit_action_20240501 partition of audit_action for values from ('2024-05-01') to ('2024-05-02')",
  );
  // 20,000 actions of 500 users. Few are changes, failures, or visible to another company.
  await fixture.database.raw(
    `insert into audit_action (time, tracecode, operation, part, user_id, username, company_key, server, service,
       method_group, outcome, visible_company)
     select timestamptz '2024-05-01' + number * interval '4 seconds', gen_random_uuid(), 'plan', gen_random_uuid(),
       number % 500, 'user_' || number % 500, 'company_' || number % 50, 'server',
       case when number % 1000 = 1 then 4 else 2 end, 3, case when number % 1000 = 2 then 2 else 1 end,
       case when number % 1000 = 3 then 'company_' || (number + 1) % 50 end
     from generate_series(1, 20000) as number`,
  );
  await fixture.database.raw("vacuum analyze audit_action");
});
afterAll(() => fixture.drop());

const day = { from: Date.UTC(2024, 4, 1) * 1000, to: Date.UTC(2024, 4, 2) * 1000 };
const order = ["time", "tracecode", "operation", "part"].map((column) => ({ column, order: "desc" as const }));

function page(selection: Partial<ActionFilter>): Knex.QueryBuilder {
  const whole = { ...day, user: {}, method: {}, ...selection };
  return filterFirstActions(fixture.database, whole, { order, offset: 0, limit: 20 }).select("tracecode");
}

function count(selection: Partial<ActionFilter>): Knex.QueryBuilder {
  return filterActions(fixture.database, { ...day, user: {}, method: {}, ...selection }).count();
}

/** Every index of the log, and a query of ours that reads it. */
const readers: readonly { readonly index: string; readonly query: () => Knex.QueryBuilder }[] = [
  { index: "audit_action_pkey", query: () => page({}) },
  { index: "audit_action_user", query: () => page({ user: { username: "user_7" } }) },
  { index: "audit_action_company", query: () => page({ company: "company_7" }) },
  { index: "audit_action_change", query: () => page({ method: { service: 4 } }) },
  { index: "audit_action_outcome", query: () => count({ outcome: "not success" }) },
  { index: "audit_action_visible", query: () => page({ visibleTo: "company_4" }) },
];

test.each(readers)("a query of the log reads $index", async ({ index, query }) => {
  const { rows } = await fixture.database.raw<{ rows: { "QUERY PLAN": unknown }[] }>(
    `explain (format json) ${query().toString()}`,
  );
  const used = [...JSON.stringify(rows).matchAll(/"Index Name":"([^"]+)"/g)].map(([, name = ""]) => name);
  const { rows: parents } = await fixture.database.raw<{ rows: { name: string }[] }>(
    "select inhparent::regclass::text as name from pg_inherits where inhrelid::regclass::text = any(?)",
    [used],
  );
  expect(parents.map(({ name }) => name)).toContain(index);
});

test("every index of the log has a query that reads it", async () => {
  const { rows } = await fixture.database.raw<{ rows: { name: string }[] }>(
    "select indexrelid::regclass::text as name from pg_index where indrelid = 'audit_action'::regclass order by 1",
  );
  expect(rows.map(({ name }) => name)).toEqual(readers.map(({ index }) => index).toSorted());
});

import { afterAll, beforeAll, expect, test } from "vitest";
import { filterActions, filterFirstActions } from "../../src/audit/matching.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let fixture: TestDatabase;
beforeAll(async () => {
  fixture = await createTestDatabase();
  await fixture.database.raw(
    "create table audit_action_20240501 partition of audit_action for values from ('2024-05-01') to ('2024-05-02')",
  );
  // 6,000 actions of 3 companies. Every 20th is visible to another company.
  await fixture.database.raw(
    `insert into audit_action (time, tracecode, operation, part, user_id, username, company_key, server, service,
       method_group, outcome, visible_company)
     select timestamptz '2024-05-01' + number * interval '1 second', gen_random_uuid(), 'plan', gen_random_uuid(), 1, 'anna',
       'company_' || number % 3, 'server', 2, 3, 1, case when number % 20 = 0 then 'company_' || (number + 1) % 3 end
     from generate_series(1, 6000) as number`,
  );
  await fixture.database.raw("analyze audit_action");
});
afterAll(() => fixture.drop());

const order = ["time", "tracecode", "operation", "part"].map((column) => ({ column, order: "desc" as const }));
const day = { from: Date.UTC(2024, 4, 1) * 1000, to: Date.UTC(2024, 4, 2) * 1000 };
const selection = { ...day, user: {}, visibleTo: "company_1", method: {} };

test("a partner's page equals that slice of all actions that the partner may see, in both orders", async () => {
  for (const direction of ["asc", "desc"] as const) {
    const sorted = order.map(({ column }) => ({ column, order: direction }));
    const all: { tracecode: string }[] = await filterActions(fixture.database, selection).orderBy(sorted);
    expect(all.length).toBeGreaterThan(1900);
    for (const offset of [0, 7, 1900]) {
      const first: { tracecode: string }[] = await filterFirstActions(fixture.database, selection, {
        order: sorted,
        offset,
        limit: 50,
      });
      expect(first).toEqual(all.slice(offset, offset + 50));
    }
  }
});

test("a partner's page reads only its own rows from the indexes", async () => {
  const rowsRead = async (query: { toString(): string }) => {
    const { rows } = await fixture.database.raw<{ rows: { "QUERY PLAN": { Plan: PlanNode }[] }[] }>(
      `explain (analyze, format json) ${query.toString()}`,
    );
    return Math.max(...nodesOf((rows[0] as { "QUERY PLAN": [{ Plan: PlanNode }] })["QUERY PLAN"][0].Plan));
  };
  const page = { order, offset: 10, limit: 20 };
  expect(await rowsRead(filterFirstActions(fixture.database, selection, page))).toBeLessThanOrEqual(60);
  const unbounded = filterActions(fixture.database, selection).orderBy(order).offset(10).limit(20);
  expect(await rowsRead(unbounded)).toBeGreaterThan(1000);
});

interface PlanNode {
  readonly "Actual Rows": number;
  readonly Plans?: readonly PlanNode[];
}

/** The rows of each node of a plan. */
function nodesOf(node: PlanNode): number[] {
  return [node["Actual Rows"], ...(node.Plans ?? []).flatMap(nodesOf)];
}

import { afterAll, beforeAll, expect, test } from "vitest";
import { streamUsage, type UsageRow } from "../../src/usage/store.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let fixture: TestDatabase;
beforeAll(async () => {
  fixture = await createTestDatabase();
});
afterAll(() => fixture.drop());

const users = 1500;

test("pending usage is added to the row of its user and day, on every page", async () => {
  const { database } = fixture;
  await database.raw(
    `insert into usage_day (date, user_id, service, method_group, username, company_key, requests, points, unique_points)
     select date '2026-10-01', id, 2, 3, 'user_' || id, 'acme', 1, id, 0 from generate_series(1, ?::integer) as id`,
    [users],
  );
  // For each user: a settlement on that day, and an action on another day, which has no row so far. With three rows a user,
  // pages end between rows that are added.
  await database.raw(
    `insert into audit_pending (
       starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, usage_days, requests,
       points, unique_points
     )
     select array[now(), now()], array[id, id], array['user_' || id, 'user_' || id], array['acme', 'acme'], '{2,2}', '{3,3}',
       '{"",run_plan}', '{0,1}', '{2026-10-01,2026-10-03}', '{1,1}', '{10,20}', '{4,0}'
     from generate_series(1, ?::integer) as id`,
    [users],
  );
  const selection = {
    scope: { kind: "everything" },
    username: undefined,
    period: { from: "2026-10-01", to: "2026-11-01" },
  } as const;
  const read: UsageRow[] = [];
  const options = { nowMs: Date.now(), signal: new AbortController().signal };
  for await (const rows of streamUsage(database, selection, options)) read.push(...rows);
  const ids = Array.from({ length: users }, (_, index) => index + 1).toSorted((left, right) =>
    `user_${left}` < `user_${right}` ? -1 : 1,
  );
  const rowsOf = (id: number) => {
    const row = { user_id: id, username: `user_${id}`, company_key: "acme", service: 2, method_group: 3 };
    return [
      { ...row, date: "2026-10-01", requests: 2, points: id + 10, unique_points: 4 },
      { ...row, date: "2026-10-03", requests: 1, points: 20, unique_points: 0 },
    ];
  };
  expect(read).toEqual(ids.flatMap(rowsOf));
});

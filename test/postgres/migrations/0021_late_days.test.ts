import { afterEach, beforeEach, expect, test } from "vitest";
import { migrate } from "../../../src/postgres/migrate.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { migrateUpTo } from "../../support/migrations.ts";

let fixture: TestDatabase;
beforeEach(async () => {
  fixture = await createTestDatabase({ empty: true });
  await migrateUpTo(fixture.database, 9);
  await fixture.database.raw("create table lease_old partition of lease for values from (minvalue) to (maxvalue)");
});
afterEach(() => fixture.drop());

/** Writes a lease of some days ago as the last release does. */
function put(days: number, userId: number, expires: string, ended: string | null) {
  return fixture.database.raw(
    `insert into lease as kept (
       day, user_id, service, method_group, operation_id, username, company_key, timezone, points, granted_at,
       expire_at, state, ended_at, tracecode, holder, settled_points)
     values (current_date - ?::integer, ?, 2, 3, '00000000-0000-4000-8000-000000000001', 'anna', 'acme', -3, 5, now(),
       now() + ?::interval, case when ?::text is null then 0 else 1 end, now() + ?::interval, gen_random_uuid(), '', null)
     on conflict (user_id, service, method_group, day, operation_id) do update
       set expire_at = excluded.expire_at, state = excluded.state, ended_at = excluded.ended_at`,
    [days, userId, expires, ended, ended],
  );
}

const lateDays = async () =>
  (await fixture.database("late_day").orderBy("user_id").select("user_id")).map((row) => row.user_id);

test("notes old days with open or recent leases, and those that servers of the last release add", async () => {
  await put(10, 1, "1 minute", null);
  await put(10, 2, "-9 days", "-1 hour");
  await put(10, 3, "-9 days", null);
  await put(60, 4, "-50 days", "-20 days");
  await put(0, 5, "1 hour", null);
  await migrate(fixture.database);
  expect(await lateDays()).toEqual([1, 2]);
  await put(10, 3, "1 minute", null);
  await put(20, 6, "1 minute", null);
  await put(1, 7, "1 minute", null);
  expect(await lateDays()).toEqual([1, 2, 3, 6]);
});

import { once } from "node:events";
import pg from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { migrate } from "../../../src/postgres/migrate.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { migrateUpTo } from "../../support/migrations.ts";

let fixture: TestDatabase;
beforeEach(async () => {
  fixture = await createTestDatabase({ empty: true });
  await migrateUpTo(fixture.database, 9);
  await fixture.database.raw(
    "create table lease_20261124 partition of lease for values from ('2026-11-24') to ('2026-11-25')",
  );
});
afterEach(() => fixture.drop());

/** Writes a lease as the last release does. */
function put(operation: number, state: number, points: number | null) {
  return fixture.database.raw(
    `insert into lease as kept (
       day, user_id, service, method_group, operation_id, username, company_key, timezone, points, granted_at,
       expire_at, state, ended_at, tracecode, holder, settled_points)
     values ('2026-11-24', 7, 2, 3, ('00000000-0000-4000-8000-00000000000' || ?)::uuid, 'anna', 'acme', -3, 5, now(),
       now(), ?, now(), gen_random_uuid(), '', ?)
     on conflict (user_id, service, method_group, day, operation_id) do update
       set state = excluded.state, settled_points = excluded.settled_points where kept.state < 2`,
    [operation, state, points],
  );
}

const charged = () => fixture.database("charged_day").select("user_id", "timezone", "points");

test("sums settled leases, including those that servers of the last release still settle", async () => {
  await put(1, 2, 4);
  await put(2, 0, null);
  await put(3, 1, null);
  await migrate(fixture.database);
  expect(await charged()).toEqual([{ user_id: 7, timezone: -3, points: 4 }]);
  await put(2, 2, 10);
  await put(4, 2, 100);
  await put(5, 0, null);
  await put(1, 2, 9);
  expect(await charged()).toEqual([{ user_id: 7, timezone: -3, points: 114 }]);
});

test("servers of the last release decide until a later server counts, and then are notified and refused", async () => {
  const verify = () =>
    fixture.database.raw(
      `insert into counter_generation as kept (run_id, generation) values ('a', 1)
       on conflict (id) do update set run_id = excluded.run_id returning generation`,
    );
  await verify();
  await migrate(fixture.database);
  await verify();
  const client = new pg.Client({ connectionString: fixture.url });
  await client.connect();
  await client.query("listen tollgate");
  const notified = once(client, "notification");
  await fixture.database("counter_store").insert({ run_id: "a", generation: 1 });
  expect((await notified)[0]).toMatchObject({ payload: "generation" });
  await client.end();
  // Release 1.0 answers UNAVAILABLE to this code.
  await expect(verify()).rejects.toMatchObject({ code: "55P03" });
});

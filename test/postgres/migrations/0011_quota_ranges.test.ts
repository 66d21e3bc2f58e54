import { afterEach, beforeEach, expect, it } from "vitest";
import { migrate } from "../../../src/postgres/migrate.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { migrateUpTo } from "../../support/migrations.ts";

let test: TestDatabase;
let userId: number | undefined;

beforeEach(async () => {
  test = await createTestDatabase({ empty: true });
  await migrateUpTo(test.database, 9);
  await test.database("company").insert({ key: "acme" });
  const [user] = await test
    .database("user_account")
    .insert({ username: "anna", company_key: "acme", enabled: true, roles: [], timezone: 0 })
    .returning<{ id: number }[]>("id");
  userId = user?.id;
});

afterEach(() => test.drop());

it("gives stored limits that are absent or beyond their maximum the maximum, and leaves the others", async () => {
  const { database } = test;
  const limits = (request: number | null, day: number | null, window: number | null, concurrent: number | null) => ({
    points_per_request: request,
    points_per_day: day,
    points_per_date_window: window,
    max_concurrent_execution: concurrent,
  });
  const rows = [
    limits(null, null, null, null),
    limits(0, 0, 0, 0),
    limits(15, 1500, 1500, 5),
    limits(1_000_000, 100_000_000, 100_000_000, 1000),
    limits(4_294_967_295, 4_294_967_295, 4_294_967_295, 4_294_967_295),
  ];
  const groups = ["PLAN", "ROUTE", "MATRIX", "PACK", "TRACE"];
  await database("quota").insert(
    rows.map((row, index) => ({ ...row, user_id: userId, service: "ROUTING", method_group: groups[index] })),
  );

  await migrate(database);

  expect(
    await database("quota")
      .select(Object.keys(limits(0, 0, 0, 0)))
      .orderBy("id"),
  ).toEqual([
    limits(1_000_000, 100_000_000, null, null),
    ...rows.slice(1, 4),
    limits(1_000_000, 100_000_000, 100_000_000, 1000),
  ]);

  // Servers of the last release still write such limits.
  await database("quota")
    .update(limits(null, null, null, null))
    .where({ method_group: "PLAN" });
  await database("quota")
    .update(limits(4_294_967_295, 5, 4_294_967_295, 4_294_967_295))
    .where({ method_group: "ROUTE" });
  expect(
    await database("quota")
      .select(Object.keys(limits(0, 0, 0, 0)))
      .whereIn("method_group", ["PLAN", "ROUTE"])
      .orderBy("id"),
  ).toEqual([limits(1_000_000, 100_000_000, null, null), limits(1_000_000, 5, 100_000_000, 1000)]);
});

it("gives the maximum to a limit that a server of the last release commits during the migration", async () => {
  const { database } = test;
  const writer = await database.transaction();
  await writer("quota").insert({ user_id: userId, service: "ROUTING", method_group: "PLAN" });
  const migrating = migrate(database);
  const thisDatabase = database("pg_database").select("oid").where("datname", database.raw("current_database()"));
  const isWaiting = () =>
    database("pg_locks").where({ granted: false, locktype: "relation", database: thisDatabase }).first();
  await expect.poll(isWaiting).toBeDefined();
  await writer.commit();
  await migrating;
  expect(await database("quota").first("points_per_request", "points_per_day")).toEqual({
    points_per_request: 1_000_000,
    points_per_day: 100_000_000,
  });
});

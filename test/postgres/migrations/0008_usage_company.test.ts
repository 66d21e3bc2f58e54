import { afterEach, beforeEach, expect, it } from "vitest";
import { migrate } from "../../../src/postgres/migrate.ts";
import { createUsageWriter } from "../../../src/usage/writer.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { migrateUpTo } from "../../support/migrations.ts";

let test: TestDatabase;

beforeEach(async () => {
  test = await createTestDatabase({ empty: true });
  await migrateUpTo(test.database, 7);
});

afterEach(() => test.drop());

it("keeps existing usage, and adds new usage by company", async () => {
  const before = {
    date: "2026-10-10",
    user_id: 7,
    service: 2,
    method_group: 3,
    username: "anna",
    company_key: "first",
    requests: 2,
    points: 510,
    unique_points: 4,
  };
  await test.database("usage_day").insert(before);
  await migrate(test.database);
  expect(await test.database("usage_day")).toEqual([before]);

  const writer = createUsageWriter(test.database);
  const day = Date.UTC(2026, 9, 10) / 86_400_000;
  const usages = ["first", "second"].map((companyKey) => {
    return { day, userId: 7, username: "anna", companyKey, service: 2, methodGroup: 3, points: 5, pointKeys: [1n] };
  });
  await writer.prepare(usages);
  await test.database.transaction((transaction) => writer.write(transaction, usages));
  expect(await test.database("usage_day").orderBy("company_key")).toEqual([
    { ...before, requests: 3, points: 515, unique_points: 5 },
    { ...before, company_key: "second", requests: 1, points: 5, unique_points: 0 },
  ]);
});

import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { afterEach, beforeEach, expect, it } from "vitest";
import { writeActionBatches } from "../../../src/audit/record.ts";
import { createRollUp } from "../../../src/audit/roll-up.ts";
import { createActionWriter } from "../../../src/audit/writer.ts";
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

  const day = Date.UTC(2026, 9, 10) / 86_400_000;
  const rollUp = createRollUp({ database: test.database, logger: pino({ level: "silent" }) });
  const writers = {
    database: test.database,
    actions: createActionWriter(test.database, rollUp),
    usage: createUsageWriter(test.database),
  };
  const records = ["first", "second"].map((companyKey) => {
    const both = { userId: 7, username: "anna", companyKey, service: 2, methodGroup: 3, points: 5 };
    const what = {
      timeMicros: day * 86_400_000_000,
      tracecode: randomUUID(),
      operation: "run_plan",
      server: "planner",
    };
    return { action: { ...both, ...what, outcome: 1, usageDay: day }, usage: { ...both, day, pointKeys: [1n] } };
  });
  await writeActionBatches(writers, [{ records, added: new Set(), contradicted: [] }]);
  await rollUp.stop();
  expect(await test.database("usage_day").orderBy("company_key")).toEqual([
    { ...before, requests: 3, points: 515, unique_points: 5 },
    { ...before, company_key: "second", requests: 1, points: 5, unique_points: 0 },
  ]);
});

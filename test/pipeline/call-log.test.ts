import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

test("the duration of a call does not follow a clock that is set back", async () => {
  const hour = 3_600_000;
  const key = `company_${randomUUID().slice(0, 8)}`;
  const lock = await app.database.transaction();
  await lock.raw("lock table company in access exclusive mode");
  const creating = app.http("POST", "/admin/companies", { token: app.admin, body: { key } });
  const waits = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
  try {
    await expect.poll(async () => (await app.database.raw(waits)).rows.length).toBeGreaterThan(0);
    app.advance(-hour);
  } finally {
    await lock.rollback();
  }
  expect((await creating).status).toBe(201);
  app.advance(hour);
  const [line] = app.log.filter(({ msg, operation }) => msg === "call" && operation === "create_company");
  expect(line.durationMs).toBeGreaterThanOrEqual(0);
  expect(line.durationMs).toBeLessThan(hour);
});

import type { EventEmitter } from "node:events";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createHealthProbe } from "../../src/system/probe.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let postgres: TestDatabase;
beforeAll(async () => {
  postgres = await createTestDatabase();
});
afterAll(() => postgres.drop());

test("the probe queries the database once a second, however often it is called", async () => {
  let ms = 0;
  let queries = 0;
  (postgres.database.client.pool as EventEmitter).on("acquireSuccess", () => (queries += 1));
  const probe = createHealthProbe({ database: postgres.database, redis: undefined, now: () => ms });
  const answers = await Promise.all(Array.from({ length: 3000 }, () => probe()));
  expect(new Set(answers)).toEqual(new Set([1]));
  ms += 999;
  await probe();
  expect(queries).toBe(1);
  ms += 1;
  await probe();
  expect(queries).toBe(2);
});

test("a probe that fails rejects every call within its second", async () => {
  const { database, drop } = await createTestDatabase();
  let ms = 0;
  const probe = createHealthProbe({ database, redis: undefined, now: () => ms });
  expect(await probe()).toBe(1);
  await drop();
  ms += 1000;
  await expect(probe()).rejects.toThrow();
  await expect(probe()).rejects.toThrow();
});

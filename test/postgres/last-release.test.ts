import pg from "pg";
import pino from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { watchLastRelease } from "../../src/postgres/last-release.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let fixture: TestDatabase;
beforeAll(async () => {
  fixture = await createTestDatabase();
});
afterAll(() => fixture.drop());

const watch = () => watchLastRelease({ database: fixture.database, logger: pino({ level: "silent" }), intervalMs: 10 });

/** Connects as a server of release 1.0 does for notifications. */
async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: fixture.url, application_name: "tollgate_bus" });
  await client.connect();
  return client;
}

test("sees servers of the last release until the last one is gone", async () => {
  expect((await watch()).isRunning()).toBe(false);
  const client = await connect();
  const { isRunning, stop } = await watch();
  expect(isRunning()).toBe(true);
  await client.end();
  await expect.poll(isRunning).toBe(false);
  stop();
});

import pino from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ensurePartitions } from "../../src/storage/partitions.ts";
import { keepTables } from "../../src/storage/retention.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const today = Math.floor(Date.UTC(2026, 10, 24) / 86_400_000);

let stand: TestDatabase;
beforeEach(async () => {
  stand = await createTestDatabase();
});
afterEach(() => stand.drop());

test("what fails of one table is logged, and the others are kept all the same", async () => {
  const lines: string[] = [];
  const logger = pino({ level: "warn" }, { write: (line) => lines.push(line) });
  await ensurePartitions(stand.database, "audit_action", new Set([today - 100]));
  const stop = keepTables({ database: stand.database, logger, now: () => today * 86_400_000 }, [
    { table: "lease", days: 40, tidy: () => Promise.reject(new Error("cannot be tidied")) },
    { table: "audit_action", days: 40 },
  ]);
  const count = async (table: string) => {
    const found = await stand.database("pg_inherits").whereRaw("inhparent = ?::regclass", [table]).count().first();
    return Number(found?.["count"]);
  };
  await expect.poll(() => count("audit_action")).toBe(5);
  stop();
  expect(await count("lease")).toBe(5);
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { table: "lease", err: { message: "cannot be tidied" } },
  ]);
});

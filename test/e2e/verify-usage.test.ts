import { spawnSync } from "node:child_process";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let testDatabase: TestDatabase;
beforeEach(async () => {
  testDatabase = await createTestDatabase();
  await testDatabase.database.raw(
    "create table lease_20240501 partition of lease for values from ('2024-05-01') to ('2024-05-02')",
  );
  await testDatabase.database.raw(
    `insert into lease (day, user_id, service, method_group, operation_id, username, company_key, timezone, points,
       granted_at, expire_at, state, ended_at, settled_points, tracecode, holder)
     values ('2024-05-01', 7, 2, 3, gen_random_uuid(), 'anna', 'acme', 0, 5, now(), now(), 2, now(), 4, gen_random_uuid(), '')`,
  );
  await testDatabase.database.raw(
    `insert into usage_day (date, user_id, service, method_group, username, company_key, requests, points, unique_points)
     values ('2024-05-01', 7, 2, 3, 'anna', 'acme', 1, 4, 0)`,
  );
});
afterEach(() => testDatabase.drop());

function run(...parameters: string[]) {
  const { PATH, HOME } = process.env;
  const env = { PATH, HOME, DATABASE_URL: testDatabase.url, TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough" };
  const command = ["--import", "tsx", "src/cli/verify-usage.ts", ...parameters];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { env, encoding: "utf8" });
  return [status, stdout + stderr];
}

test("reports no difference and exits with 0 when the usage agrees with the ledger", () => {
  expect(run("--from", "2024-05-01", "--to", "2024-06-01")).toEqual([
    0,
    "1 rows of usage compared with the ledger, 0 differ\n" +
      "settled leases compared with the sums of their days and the audit log, 0 differ\n",
  ]);
});

test("prints a line for each difference and exits with 1", async () => {
  await testDatabase.database("usage_day").update({ points: 9 });
  expect(run("--from", "2024-05-01", "--to", "2024-06-01")).toEqual([
    1,
    "2024-05-01 anna (7) of acme ROUTING PLAN: the usage has 1 requests, 9 points, 0 unique points; the ledger has 1 requests, 4 points, 0 unique points\n" +
      "1 rows of usage compared with the ledger, 1 differ\n" +
      "settled leases compared with the sums of their days and the audit log, 0 differ\n",
  ]);
});

test.each<[string[], RegExp]>([
  [[], /^--from YYYY-MM-DD and --to YYYY-MM-DD must be set\n$/],
  [["--from", "2024-02-30", "--to", "2024-06-01"], /^.*--from.*2024-02-30\n$/],
  [["--form", "2024-02-01"], /^Unknown option '--form'.*\n$/],
])("refuses the arguments %o in one line and exits with 2", (parameters, message) => {
  expect(run(...parameters)).toEqual([2, expect.stringMatching(message)]);
});

test("refuses a database without tables in one line and exits with 2", async () => {
  await testDatabase.drop();
  testDatabase = await createTestDatabase({ empty: true });
  expect(run("--from", "2024-05-01", "--to", "2024-06-01")).toEqual([
    2,
    "the database must hold usage: start a server on it first\n",
  ]);
});

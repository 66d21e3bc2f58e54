import { afterEach, beforeEach, expect, test } from "vitest";
import { runCommand } from "../support/command-line.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let fixture: TestDatabase;
beforeEach(async () => {
  fixture = await createTestDatabase();
  await fixture.database.raw(
    "create table lease_20240501 partition of lease for values from ('2024-05-01') to ('2024-05-02')",
  );
  await fixture.database.raw(
    `insert into lease (day, user_id, service, method_group, operation_id, username, company_key, timezone, points,
       granted_at, expire_at, state, ended_at, settled_points, tracecode, holder)
     values ('2024-05-01', 7, 2, 3, gen_random_uuid(), 'anna', 'acme', 0, 5, now(), now(), 2, now(), 4, gen_random_uuid(), '')`,
  );
  await fixture.database.raw(
    `insert into usage_day (date, user_id, service, method_group, username, company_key, requests, points, unique_points)
     values ('2024-05-01', 7, 2, 3, 'anna', 'acme', 1, 4, 0)`,
  );
});
afterEach(() => fixture.drop());

const period = ["--from", "2024-05-01", "--to", "2024-06-01"];
const leases = "settled leases compared with the sums of their days and the audit log, 0 differ\n";

function verify(...words: string[]) {
  const environment = { DATABASE_URL: fixture.url, TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough" };
  return runCommand(["verify", ...words], { environment });
}

test("verify exits with 0 when the usage agrees with the ledger", async () => {
  const stderr = `1 rows of usage compared with the ledger, 0 differ\n${leases}`;
  expect(await verify(...period)).toEqual({ code: 0, stdout: "", stderr });
});

test("verify prints a line for each difference, and exits with 1", async () => {
  await fixture.database("usage_day").update({ points: 9 });
  expect(await verify(...period)).toEqual({
    code: 1,
    stdout:
      "2024-05-01 anna (7) of acme ROUTING PLAN: the usage has 1 requests, 9 points, 0 unique points; the ledger has 1 requests, 4 points, 0 unique points\n",
    stderr: `1 rows of usage compared with the ledger, 1 differ\n${leases}`,
  });
});

test.each<[string, string[], RegExp]>([
  ["a missing period", [], /^tollgate: --from must be set\n$/],
  ["a day that does not exist", ["--from", "2024-02-30", "--to", "2024-06-01"], /^tollgate: .*--from.*\n$/],
  ["an unknown option", ["--form", "2024-02-01"], /^tollgate: Unknown option '--form'.*\n$/],
])("verify refuses %s in one line, and exits with 2", async (_name, words, message) => {
  expect(await verify(...words)).toEqual({ code: 2, stdout: "", stderr: expect.stringMatching(message) });
});

test("verify refuses a database without tables", async () => {
  await fixture.drop();
  fixture = await createTestDatabase({ empty: true });
  const stderr = "tollgate: the database must hold usage: start a server on it first\n";
  expect(await verify(...period)).toEqual({ code: 3, stdout: "", stderr });
});

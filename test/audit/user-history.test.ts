import { afterEach, beforeEach, expect, test } from "vitest";
import { createUserHistory } from "../../src/audit/user-history.ts";
import { type Database, openDatabase } from "../../src/postgres/database.ts";
import { createRoundTrips } from "../../src/shared/measures.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let fixture: TestDatabase;
let database: Database;
const roundTrips = createRoundTrips();
const countReads = () => roundTrips.seconds.counts.reduce((sum, count) => sum + count, 0);
beforeEach(async () => {
  fixture = await createTestDatabase();
  database = openDatabase({ url: fixture.url, poolSize: 1, statementTimeoutMs: 10_000, roundTrips });
  await fixture.database("company").insert({ key: "company" });
  const user = { username: "user", company_key: "company", enabled: true, roles: [], timezone: 0 };
  await fixture.database("user_account").insert(user);
});
afterEach(async () => {
  await database.destroy();
  await fixture.drop();
});

test.each([
  { changes: "are notified", unnoticedMs: 0, reads: 0 },
  { changes: "have gone unnoticed for a moment", unnoticedMs: 4000, reads: 0 },
  { changes: "go unnoticed", unnoticedMs: 5000, reads: 1 },
])("when changes $changes, an old history is read again $reads times", async ({ unnoticedMs, reads }) => {
  let nowMs = 0;
  const history = createUserHistory({ database, unnoticedMs: () => unnoticedMs, now: () => nowMs });
  await history.find(["user"]);
  nowMs += 30_000;
  const before = countReads();
  const find = await history.find(["user"]);
  expect(countReads() - before).toBe(reads);
  expect(find("user", Date.now() * 1000)).toMatchObject({ username: "user", companyKey: "company" });
});

test("a history is read again after a minute, and after a change", async () => {
  let nowMs = 0;
  const history = createUserHistory({ database, unnoticedMs: () => 0, now: () => nowMs });
  await history.find(["user"]);
  const before = countReads();
  nowMs += 61_000;
  await history.find(["user"]);
  expect(countReads() - before).toBe(1);
  history.invalidate();
  await history.find(["user"]);
  expect(countReads() - before).toBe(2);
});

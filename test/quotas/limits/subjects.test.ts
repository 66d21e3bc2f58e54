import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Database, openDatabase } from "../../../src/postgres/database.ts";
import { createSubjects, type Subjects } from "../../../src/quotas/limits/subjects.ts";
import { createRoundTrips } from "../../../src/shared/measures.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";

let fixture: TestDatabase;
let database: Database;
const roundTrips = createRoundTrips();
const countReads = () => roundTrips.seconds.counts.reduce((sum, count) => sum + count, 0);
let subjects: Subjects;
let userId = 0;
beforeEach(async () => {
  fixture = await createTestDatabase();
  database = openDatabase({ url: fixture.url, poolSize: 1, statementTimeoutMs: 10_000, roundTrips });
  subjects = createSubjects({ database, now: Date.now, unnoticedMs: () => 0 });
  await fixture.database("company").insert({ key: "company" });
  const user = { username: "before", company_key: "company", enabled: true, roles: [], timezone: 0 };
  const [{ id }] = (await fixture.database("user_account").insert(user).returning("id")) as [{ id: number }];
  userId = id;
});
afterEach(async () => {
  await database.destroy();
  await fixture.drop();
});

const rename = () => fixture.database("user_account").where({ id: userId }).update({ username: "after" });

test("a change during the first load of a user is not lost", async () => {
  const loading = subjects.byName("before");
  subjects.invalidate([userId]);
  expect(await loading).toMatchObject({ username: "before" });
  expect(subjects.peek("before")).toBeUndefined();
});

test("the old name of a user is forgotten, also when the new one is read before the notification", async () => {
  await subjects.byName("before");
  await rename();
  expect(await subjects.byName("after")).toMatchObject({ userId });
  expect(subjects.peek("before")).toBeUndefined();
  subjects.invalidate([userId]);
  expect(subjects.peek("after")).toBeUndefined();
});

test("a user is read once while changes are notified, and again after a change", async () => {
  const first = await subjects.byName("before");
  expect(await subjects.byName("before")).toBe(first);
  await rename();
  subjects.invalidate([userId]);
  expect(await subjects.byName("before")).toBeUndefined();
});

test("the users of one turn of the event loop are read by one query", async () => {
  const user = { company_key: "company", enabled: true, roles: [], timezone: 3 };
  await fixture.database("user_account").insert({ ...user, username: "other" });
  const before = countReads();
  const found = await Promise.all(["before", "other", "absent", "before"].map((name) => subjects.byName(name)));
  expect(countReads() - before).toBe(1);
  expect(found).toMatchObject([{ userId }, { username: "other", timezone: 3 }, undefined, { userId }]);
});

test("a user that is asked for after the query was sent is read by the next one", async () => {
  const user = { company_key: "company", enabled: true, roles: [], timezone: 0 };
  await fixture.database("user_account").insert({ ...user, username: "other" });
  const first = subjects.byName("before");
  await nextTurn();
  expect(await subjects.byName("other")).toMatchObject({ username: "other" });
  expect(await first).toMatchObject({ userId });
});

test("many users are read in parts, and an error is that of its part", async () => {
  const before = countReads();
  const names = Array.from({ length: 250 }, (_none, index) => `user_${index}`);
  expect(await Promise.all(names.map((name) => subjects.byName(name)))).toEqual(names.map(() => undefined));
  expect(countReads() - before).toBe(3);
  // PostgreSQL refuses U+0000 in a text.
  const asked = ["\0", ...names.slice(1, 100), "absent"].map((name) => subjects.byName(name));
  const results = await Promise.allSettled(asked);
  expect(results.filter(({ status }) => status === "rejected")).toHaveLength(100);
  expect(results.at(-1)).toEqual({ status: "fulfilled", value: undefined });
  expect(await subjects.byName("before")).toMatchObject({ userId });
});

test("a change of one user discards no load of another", async () => {
  const loading = subjects.byName("before");
  subjects.invalidate([userId + 1]);
  const loaded = await loading;
  expect(subjects.peek("before")).toBe(loaded);
});

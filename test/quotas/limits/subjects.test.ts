import { afterEach, beforeEach, expect, test } from "vitest";
import { createSubjects, type Subjects } from "../../../src/quotas/limits/subjects.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";

let fixture: TestDatabase;
let subjects: Subjects;
let userId = 0;
beforeEach(async () => {
  fixture = await createTestDatabase();
  subjects = createSubjects({ database: fixture.database, now: Date.now, unnoticedMs: () => 0 });
  await fixture.database("company").insert({ key: "company" });
  const user = { username: "before", company_key: "company", enabled: true, roles: [], timezone: 0 };
  const [{ id }] = (await fixture.database("user_account").insert(user).returning("id")) as [{ id: number }];
  userId = id;
});
afterEach(() => fixture.drop());

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

import { afterEach, beforeEach, expect, it } from "vitest";
import { hasCompanyHistory } from "../../../src/accounts/companies/store.ts";
import { createUserHistory } from "../../../src/audit/user-history.ts";
import { migrate } from "../../../src/postgres/migrate.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { migrateUpTo } from "../../support/migrations.ts";

let test: TestDatabase;

beforeEach(async () => {
  test = await createTestDatabase({ empty: true });
  await migrateUpTo(test.database, 7);
  // Later users have higher numbers.
  await test.database.raw("alter table user_account alter column id restart with 2000");
});

afterEach(() => test.drop());

const micros = (time: string) => Date.parse(time) * 1000;
const method = { service: 2, method_group: 3 };

async function use(user_id: number, username: string, company_key: string, date: string): Promise<void> {
  const used = { requests: 1, points: 1, unique_points: 0 };
  await test.database("usage_day").insert({ user_id, username, company_key, date, ...method, ...used });
}

/** Returns the user and company of an action reported late. */
async function userAt(username: string, time: string) {
  const standing = (await createUserHistory({ database: test.database, unnoticedMs: () => 0 }).find([username]))(
    username,
    micros(time),
  );
  return standing && [standing.userId, standing.companyKey];
}

async function create(username: string, company_key: string, created_at: string): Promise<number> {
  await test.database("company").insert({ key: company_key }).onConflict().ignore();
  const user = { username, company_key, enabled: true, roles: [], timezone: 3, created_at };
  const [{ id }] = await test.database("user_account").insert(user).returning("id");
  // Set as the migration that created the table sets it.
  await test.database("user_standing").where({ user_id: id }).update({ since: created_at });
  return id;
}

it("knows the companies of deleted users from their usage, audit totals and data", async () => {
  await use(1001, "user", "of_usage", "2026-01-01");
  await use(1002, "moved", "same_day", "2026-01-01");
  await test.database("audit_total").insert({
    level: 2,
    name: "moved",
    span: 24,
    start: "2026-01-01 00:00Z",
    user_id: 1002,
    company_key: "of_audit",
    ...method,
    operation: "run_plan",
    total: 1,
  });
  await test.database("data_file").insert({
    day: "2026-01-01",
    tracecode: "11111111-2222-3333-4444-555555555555",
    flow: 1,
    stage: 1,
    user_id: 1003,
    username: "sender",
    company_key: "of_data",
    content_type: "text/plain",
    filename: "plan",
    bytes: 0,
    sha256: "",
  });
  const living = await create("living", "present", "2026-01-01 00:00Z");
  await use(living, "living", "former", "2026-02-01");
  await migrate(test.database);
  const known = ["of_usage", "same_day", "of_audit", "of_data", "present", "former", "unheard_of"].map((key) =>
    test.database.transaction((transaction) => hasCompanyHistory(transaction, key)),
  );
  expect(await Promise.all(known)).toEqual([true, true, true, true, true, true, false]);
  // An existing user stays in the present company.
  expect(await userAt("living", "2026-03-01")).toEqual([living, "present"]);
});

it("assigns late actions to the user who had the name at their time", async () => {
  await use(1001, "anna", "first", "2026-01-10");
  await use(1001, "anna", "first", "2026-02-10");
  await use(1002, "anna", "second", "2026-03-10");
  await use(1004, "bert", "first", "2026-01-10");
  // On the day on which the later user of that name was created.
  await use(1003, "carl", "first", "2026-04-10");
  const anna = await create("anna", "third", "2026-04-10 12:00Z");
  const carl = await create("carl", "third", "2026-04-09 11:00Z");
  await migrate(test.database);
  expect(await userAt("anna", "2026-01-10T05:00:00Z")).toEqual([1001, "first"]);
  expect(await userAt("anna", "2026-02-20")).toEqual([1001, "first"]);
  expect(await userAt("anna", "2026-03-11")).toEqual([1002, "second"]);
  expect(await userAt("anna", "2026-04-10T13:00:00Z")).toEqual([anna, "third"]);
  expect(await userAt("anna", "9999-01-01")).toEqual([anna, "third"]);
  expect(await userAt("carl", "2026-04-09T10:00:00Z")).toEqual([1003, "first"]);
  expect(await userAt("carl", "9999-01-01")).toEqual([carl, "third"]);
  expect(await userAt("bert", "2026-01-11")).toEqual([1004, "first"]);
  // No user has that name any more.
  expect(await userAt("bert", "9999-01-01")).toBeUndefined();
});

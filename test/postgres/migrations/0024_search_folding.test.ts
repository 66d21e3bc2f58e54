import { afterEach, beforeEach, expect, it } from "vitest";
import { filterUsers, findUser } from "../../../src/accounts/users/store.ts";
import { migrate } from "../../../src/postgres/migrate.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { migrateUpTo } from "../../support/migrations.ts";

let test: TestDatabase;

beforeEach(async () => {
  test = await createTestDatabase({ empty: true });
  await migrateUpTo(test.database, 9);
});

afterEach(() => test.drop());

it("finds existing users whose names have a final sigma or are decomposed, by the index", async () => {
  const { database } = test;
  await database("company").insert({ key: "acme", detail: "Οδός" });
  const names = { greek: "ΝΙΚΟΣ ΠΑΠΑΔΟΠΟΥΛΟΣ", swedish: "A\u030Asa", plain: "Anna" };
  const fields = { company_key: "acme", enabled: true, roles: [], timezone: 0 };
  await database("user_account").insert(
    Object.entries(names).map(([username, name]) => ({ username, name, ...fields })),
  );

  await migrate(database);

  const everyone = { scope: { kind: "everything" }, companyKey: undefined, group: "TOTAL" } as const;
  const found = async (filter: string) =>
    (await filterUsers(database, { ...everyone, filter })).map((one) => one.username);
  expect(await found("νίκος")).toEqual([]);
  expect(await found("νικος")).toEqual(["greek"]);
  expect(await found("Νικοσ")).toEqual(["greek"]);
  expect(await found("\u00C5SA")).toEqual(["swedish"]);
  expect(await found("a\u030Asa")).toEqual(["swedish"]);
  expect(await found("NN")).toEqual(["plain"]);
  expect(await findUser(database, { kind: "everything" }, "greek")).toMatchObject({ name: names.greek });
  await database.raw("set enable_seqscan = off");
  const plan = await database.raw(`explain ${filterUsers(database, { ...everyone, filter: "νικος" }).toQuery()}`);
  expect(JSON.stringify(plan.rows)).toContain("user_account_search");
});

import { afterEach, beforeEach, expect, it } from "vitest";
import { migrate } from "../../../src/postgres/migrate.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { migrateUpTo } from "../../support/migrations.ts";

let test: TestDatabase;

beforeEach(async () => {
  test = await createTestDatabase({ empty: true });
  await migrateUpTo(test.database, 9);
});

afterEach(() => test.drop());

it("gives stored roles, services and method groups the names of the contract", async () => {
  const { database } = test;
  await database("company").insert({ key: "acme" });
  const user = { company_key: "acme", enabled: true, timezone: 0 };
  const [anna] = await database("user_account")
    .insert([
      { ...user, username: "anna", roles: ["ADMIN", "SERVICE"] },
      { ...user, username: "boris", roles: ["USER"] },
    ])
    .returning<{ id: number }[]>("id");
  const quota = (service: string, method_group: string, period: string | null = null) => {
    return { user_id: anna?.id, service, method_group, period, points_per_day: 5 };
  };
  await database("quota").insert([
    quota("UNIVERSAL", "PLAN"),
    quota("UNIVERSAL", "CLUSTER"),
    quota("CLUSTERING", "CLUSTER"),
    quota("CLUSTERING", "CLUSTER", "[2026-01-01,2026-02-01)"),
    quota("REGISTRY", "PLAN"),
    quota("DELIVERY", "PLAN"),
    quota("FIELDSERVICE", "PLAN"),
  ]);
  const file = { day: "2026-01-01", stage: 0, user_id: anna?.id, username: "anna", company_key: "acme" };
  const content = { content_type: "text/plain", filename: "plan.txt", bytes: 0, sha256: Buffer.alloc(32) };
  const tracecode = "11111111-2222-3333-4444-555555555555";
  await database("data_file").insert([
    { ...file, ...content, tracecode, flow: 0 },
    { ...file, ...content, tracecode, flow: 1 },
  ]);

  await migrate(database);

  const roles = await database("user_account").select("username", "roles").orderBy("id");
  expect(roles).toEqual([
    { username: "anna", roles: ["ADMIN", "BOT"] },
    { username: "boris", roles: ["USER"] },
  ]);
  const quotas = await database("quota").select("service", "method_group").orderBy("id");
  expect(quotas.map(({ service, method_group }) => `${service} ${method_group}`)).toEqual([
    "UNIVERSAL PLAN",
    "UNIVERSAL REFINE",
    "CLUSTER REFINE",
    "CLUSTER REFINE",
    "STOCK PLAN",
    "LONGHAUL PLAN",
    "CARGOTIMETABLE PLAN",
  ]);
  expect(await database("data_file").orderBy("id").pluck("flow")).toEqual([2, 1]);
});

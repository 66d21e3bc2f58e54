import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, expect, it } from "vitest";
import { bucketsOf, countActions } from "../../../src/audit/buckets.ts";
import { filterActions } from "../../../src/audit/matching.ts";
import type { ActionFilter } from "../../../src/audit/selection.ts";
import { migrate } from "../../../src/postgres/migrate.ts";
import { ensurePartitions } from "../../../src/postgres/partitions.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { migrateUpTo } from "../../support/migrations.ts";

let test: TestDatabase;
const hour = Date.UTC(2026, 9, 10, 7);

beforeEach(async () => {
  test = await createTestDatabase({ empty: true });
  await migrateUpTo(test.database, 20);
  await ensurePartitions(test.database, "audit_action", new Set([Math.floor(hour / 86_400_000)]));
});

afterEach(() => test.drop());

it("shows existing changes to the company of the changed resource, in lists and totals", async () => {
  const { database } = test;
  const at = (minute: number) => new Date(hour + minute * 60_000);
  await database("user_standing").insert([
    { user_id: 1, since: at(1), username: "moving", company_key: "one", timezone: 0 },
    { user_id: 1, since: at(20), username: "moving", company_key: "two", timezone: 0 },
    { user_id: 1, since: at(40), username: "moving" },
  ]);
  const admin = { user_id: 9, username: "admin", company_key: "administration" };
  const action = (minute: number, operation: string, resource: string | null, fields = {}) => ({
    time: at(minute),
    tracecode: randomUUID(),
    operation,
    part: randomUUID(),
    server: "test",
    service: 4,
    method_group: 1,
    outcome: 1,
    resource,
    ...admin,
    ...fields,
  });
  const routing = { service: 2, user_id: 1, username: "moving", company_key: "one" };
  const actions = [
    action(1, "create_user", "moving"),
    action(19, "update_user", "moving"),
    action(30, "update_quotas", "moving"),
    action(30, "update_user", "unheard_of"),
    action(30, "update_company", "one"),
    action(31, "update_company", "administration"),
    action(10, "update_password", "moving", { user_id: 1, username: "moving", company_key: "one" }),
    action(15, "run_plan", null, routing),
  ];
  await database("audit_action").insert(actions);
  // Totals as the last release counts them.
  for (const [span, start] of [
    [1, new Date(hour)],
    [24, new Date(Date.UTC(2026, 9, 10))],
  ] as const) {
    for (const { service, method_group, operation, username, user_id, company_key } of actions) {
      const levels = [
        { level: 0, name: "", user_id: 0, company_key: "" },
        { level: 1, name: company_key, user_id: 0, company_key: "" },
        ...(span === 24 ? [{ level: 2, name: username, user_id, company_key }] : []),
      ];
      for (const level of levels) {
        await database.raw(
          `insert into audit_total as kept (level, name, span, start, user_id, company_key, service, method_group, operation, total)
           values (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
           on conflict (level, name, span, start, user_id, company_key, service, method_group, operation)
             do update set total = kept.total + 1`,
          [level.level, level.name, span, start, level.user_id, level.company_key, service, method_group, operation],
        );
      }
    }
  }

  await migrate(database);

  const seenBy = async (visibleTo: string, user: ActionFilter["user"] = {}) => {
    const ofDay = { from: hour * 1000 - 7 * 3_600_000_000, to: hour * 1000 + 17 * 3_600_000_000 };
    const selection: ActionFilter = { ...ofDay, user, visibleTo, method: {} };
    const rows: { operation: string }[] = await filterActions(database, selection).select("operation").orderBy("time");
    expect(countActions(await bucketsOf(database, selection))).toBe(rows.length);
    const ofHours = await bucketsOf(database, { ...selection, from: hour * 1000, to: (hour + 3_600_000) * 1000 });
    expect(countActions(ofHours)).toBe(rows.length);
    return rows.map(({ operation }) => operation).toSorted();
  };
  expect(await seenBy("one")).toEqual(["create_user", "run_plan", "update_company", "update_password", "update_user"]);
  expect(await seenBy("two")).toEqual(["update_quotas"]);
  expect(await seenBy("administration")).toEqual(["update_company"]);
  expect(await seenBy("one", { username: "admin" })).toEqual(["create_user", "update_company", "update_user"]);
  expect(await seenBy("one", { username: "moving" })).toEqual(["run_plan", "update_password"]);
});

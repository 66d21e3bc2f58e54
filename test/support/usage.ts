import type { TestApp } from "./app.ts";

/** The usage of anna and bert of one company and carl of another, in October and on the first of November 2026. */
export async function makeUsage(app: TestApp): Promise<{ company: string; people: Readonly<Record<string, string>> }> {
  const company = await app.company();
  const people: Record<string, string> = {};
  people["anna"] = await app.user({ company_key: company, roles: ["USER"] });
  people["bert"] = await app.user({ company_key: company });
  people["carl"] = await app.user();
  const rows = [
    ["anna", "2026-10-01", 1, 3, 2, 1000, 900],
    ["anna", "2026-10-01", 2, 9, 1, 10, 10],
    ["anna", "2026-10-02", 1, 3, 4, 2000, 1],
    ["bert", "2026-10-02", 1, 3, 1, 5, 5],
    ["carl", "2026-10-31", 2, 9, 3, 300_000, 7],
    ["carl", "2026-11-01", 2, 9, 3, 77, 77],
  ] as const;
  for (const [person, date, service, method_group, requests, points, unique_points] of rows) {
    const username = people[person];
    const { id: user_id, company_key } = await app.database("user_account").where({ username }).first();
    const row = { date, user_id, service, method_group, username, company_key, requests, points, unique_points };
    await app.database("usage_day").insert(row);
  }
  return { company, people };
}

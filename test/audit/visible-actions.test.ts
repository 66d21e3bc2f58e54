import { afterAll, beforeAll, expect, test } from "vitest";
import { type Json, startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

const changes = ["create_company", "update_company", "create_user", "update_user", "update_quotas", "delete_user"];

/** Returns the changes that a caller sees, and checks that the totals agree. */
async function read(token: string, query: Record<string, string> = {}): Promise<string[]> {
  const found: string[] = [];
  for (const operation_id of changes) {
    const path = `/admin/audit?${new URLSearchParams({ operation_id, limit: "1000", ...query }).toString()}`;
    const { body } = await app.http("GET", path, { token });
    expect(body.statistics.filter.total).toBe(body.actions.length);
    found.push(
      ...body.actions.map((listed: Json) => `${listed.tracedata.operation} ${listed.resource} by ${listed.username}`),
    );
  }
  return found.toSorted();
}

/** Waits until the roll-up has counted all actions. */
async function rolledUp(): Promise<void> {
  const pending = async () => Number((await app.database("audit_pending").count().first())?.count);
  await expect.poll(pending, { timeout: 10_000 }).toBe(0);
}

const partnerOf = async (company_key: string, username: string): Promise<string> => {
  await app.user({ username, company_key, roles: ["PARTNER"] });
  return app.token(username);
};
const put = async (body: Json, token = app.admin): Promise<void> => {
  const answer = await app.http("PUT", "/admin/users", {
    token,
    body: { roles: [], timezone: 0, enabled: true, ...body },
  });
  expect([answer.status, answer.body.message]).toEqual([200, undefined]);
};

test("partners see only the changes of their own company, including those by administrators", async () => {
  // The administrator's own company has a partner as well.
  const colleague = await partnerOf("administration", "colleague");
  const [firstKey, secondKey] = [await app.company(), await app.company()];
  const [first, second] = [await partnerOf(firstKey, "partner_one"), await partnerOf(secondKey, "partner_two")];
  await app.user({ username: "moving", company_key: firstKey });
  await app.http("PUT", "/admin/companies", { token: app.admin, body: { key: firstKey, detail: "first" } });
  await put({ username: "moving", company_key: firstKey, name: "In first" }, first);
  await put({ username: "moving", company_key: secondKey });
  await put({ username: "moving", company_key: secondKey, name: "In second" });
  const quota = { services: [] };
  await app.http("PUT", "/admin/quotas/moving", { token: app.admin, body: quota });
  await app.http("DELETE", "/admin/users/moving", { token: app.admin });

  const ofFirst = [
    `create_company ${firstKey} by admin`,
    "create_user moving by admin",
    "create_user partner_one by admin",
    `update_company ${firstKey} by admin`,
    // The move belongs to the company that the user leaves.
    "update_user moving by admin",
    "update_user moving by partner_one",
  ].toSorted();
  const ofSecond = [
    `create_company ${secondKey} by admin`,
    "create_user partner_two by admin",
    "update_user moving by admin",
    "delete_user moving by admin",
  ].toSorted();
  const check = async () => {
    expect(await read(first)).toEqual(ofFirst);
    expect((await read(second)).filter((line) => !line.startsWith("update_quotas"))).toEqual(ofSecond);
    expect(await read(colleague)).toEqual(["create_user colleague by admin"]);
    expect(await read(first, { username: "admin" })).toEqual(ofFirst.filter((line) => line.endsWith("by admin")));
    expect(await read(first, { username: "partner_one" })).toEqual(["update_user moving by partner_one"]);
    expect(await read(first, { company_key: firstKey })).toEqual(["update_user moving by partner_one"]);
    expect(await read(first, { company_key: "administration" })).toEqual(
      ofFirst.filter((line) => line.endsWith("by admin")),
    );
    expect(await read(first, { company_key: secondKey })).toEqual([]);
    expect(await read(first, { username: "partner_two" })).toEqual([]);
    expect(await read(app.admin, { company_key: firstKey })).toEqual(["update_user moving by partner_one"]);
  };
  await check();
  await rolledUp();
  await check();
});

test("a partner's totals include an administrator's actions over hours, days and their edges", async () => {
  const key = await app.company();
  const partner = await partnerOf(key, "counting");
  for (const detail of ["a", "b", "c"]) {
    await app.http("PUT", "/admin/companies", { token: app.admin, body: { key, detail } });
  }
  const total = async (query: string): Promise<number> => {
    const { body } = await app.http("GET", `/admin/audit?operation_id=update_company&${query}`, { token: partner });
    return body.statistics.filter.total;
  };
  await rolledUp();
  const hour = new Date(Math.floor(Date.now() / 3_600_000) * 3_600_000);
  const end = new Date(hour.getTime() + 25 * 3_600_000).toISOString();
  for (const query of ["", "username=admin&", "company_key=administration&"]) {
    expect(await total(`${query}from=${hour.toISOString()}&to=${end}`)).toBe(3);
    expect(await total(`${query}from=2026-01-01T00:00:00Z&to=2999-01-01T00:00:00Z`)).toBe(3);
  }
  // Security events are written within a second: one may come between the count and the list.
  const difference = async () => {
    const { body } = await app.http("GET", "/admin/audit?from=2026-01-01T00:00:00Z&limit=1000", { token: partner });
    return body.statistics.overall.total - body.actions.length;
  };
  await expect.poll(difference).toBe(0);
});

import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

const call = (method: string, path: string, body?: unknown) => app.http(method, path, { token: app.admin, body });

test("creates a company, reads it, replaces its detail and removes it", async () => {
  const created = await call("POST", "/admin/companies", { key: "acme", detail: "Roads" });
  expect([created.status, created.body]).toEqual([201, { key: "acme", detail: "Roads" }]);
  expect((await call("GET", "/admin/companies/acme")).body).toEqual({ key: "acme", detail: "Roads" });
  expect((await call("PUT", "/admin/companies", { key: "acme" })).body).toEqual({ key: "acme", detail: null });
  const removed = await call("DELETE", "/admin/companies/acme");
  expect([removed.status, removed.body]).toEqual([204, ""]);
  const gone = await call("GET", "/admin/companies/acme");
  expect([gone.status, gone.body.resource_id]).toEqual([404, "acme"]);
  expect(gone.body.detail.tracedata.operation).toBe("read_company");
});

test("refuses a key that exists and leaves its company unchanged", async () => {
  await call("POST", "/admin/companies", { key: "twice", detail: "first" });
  expect((await call("POST", "/admin/companies", { key: "twice", detail: "second" })).status).toBe(409);
  expect((await call("GET", "/admin/companies/twice")).body.detail).toBe("first");
});

test.each([
  [{ key: "ab" }, "key"],
  [{ key: "a b c" }, "key"],
  [{ key: "ключ" }, "key"],
  [{ key: "x".repeat(257) }, "key"],
  [{ key: "good", detail: "x".repeat(1025) }, "detail"],
  [{ key: "good", detail: 5 }, "detail"],
  [{ detail: "no key" }, "key"],
  [{ key: "good", extra: true }, "extra"],
  [{ key: "good", detail: "a\u0000b" }, "detail"],
  [[], ""],
])("refuses %o and names %s", async (body, field) => {
  const answer = await call("POST", "/admin/companies", body);
  expect(answer.status).toBe(400);
  expect(answer.body.validations.map((entry: { field: string }) => entry.field)).toEqual([field]);
  expect(answer.body.tracedata.operation).toBe("create_company");
  expect((await call("GET", "/admin/companies/good")).status).toBe(404);
});

test("does not remove a company that has users", async () => {
  const company_key = await app.company();
  const username = await app.user({ company_key });
  const refused = await call("DELETE", `/admin/companies/${company_key}`);
  expect([refused.status, refused.body.message]).toEqual([
    409,
    `the company has users; remove them or move them to another company first: ${company_key}`,
  ]);
  expect((await call("GET", `/admin/users/${username}`)).status).toBe(200);
  await call("DELETE", `/admin/users/${username}`);
  expect((await call("DELETE", `/admin/companies/${company_key}`)).status).toBe(204);
});

test("lists companies by page, order and filter, with both totals", async () => {
  for (const key of ["list_b", "list_a", "list_c"])
    await call("POST", "/admin/companies", { key, detail: `Of ${key}` });
  const page = await call("GET", "/admin/companies?filter=LIST_&sort_field=key&sort_direction=DESC&offset=1&limit=1");
  expect(page.body.companies).toEqual([{ key: "list_b", detail: "Of list_b" }]);
  expect(page.body.statistics.filter).toEqual({ total: 3 });
  const { rows } = await app.database.raw("select count(*) as total from company");
  expect(page.body.statistics.overall).toEqual({ total: rows[0].total });
});

test("matches % and _ literally in a filter", async () => {
  await call("POST", "/admin/companies", { key: "wild", detail: "100% of_it" });
  const found = async (filter: string) => {
    const { body } = await call("GET", `/admin/companies?filter=${encodeURIComponent(filter)}`);
    return body.companies.map(({ key }: { key: string }) => key);
  };
  expect(await found("0% OF_I")).toEqual(["wild"]);
  expect(await found("0%of")).toEqual([]);
  expect(await found("1__%")).toEqual([]);
  expect(await found("\\")).toEqual([]);
});

test.each([
  ["sigma", "Οδός ΟΔΟΣ", ["ΟΔΌΣ", "οδός", "οδόσ", "οδοσ"]],
  ["ring", "A\u030Asa", ["\u00E5SA", "a\u030Asa"]],
  ["ring_composed", "\u00C5lesund", ["a\u030Ales", "\u212BLES"]],
])("a filter finds text that is composed, decomposed or has a final sigma: %s", async (key, detail, filters) => {
  await call("POST", "/admin/companies", { key, detail });
  for (const filter of filters) {
    const { body } = await call("GET", `/admin/companies?filter=${encodeURIComponent(filter)}`);
    expect([filter, body.companies.map((entry: { key: string }) => entry.key)]).toEqual([filter, [key]]);
  }
});

test("returns an empty list with totals when no company matches", async () => {
  const { body } = await call("GET", "/admin/companies?filter=nothing_like_it");
  expect(body.companies).toEqual([]);
  expect(body.statistics.filter).toEqual({ total: 0 });
});

test.each([
  ["limit=0", "limit"],
  ["limit=10000001", "limit"],
  ["offset=-1", "offset"],
  ["offset=1.5", "offset"],
  [`filter=${"x".repeat(65)}`, "filter"],
  ["sort_field=password", "sort_field"],
  ["sort_field=constructor", "sort_field"],
  ["sort_direction=UP", "sort_direction"],
  ["page=1", "page"],
])("refuses the query %s and names %s", async (query, field) => {
  const answer = await call("GET", `/admin/companies?${query}`);
  expect([answer.status, answer.body.validations?.[0]?.field]).toEqual([400, field]);
});

test("refuses the key of a deleted company whose history is kept", async () => {
  const key = await app.company();
  const username = await app.user({ company_key: key });
  await app.http("DELETE", `/admin/users/${username}`, { token: app.admin });
  expect((await app.http("DELETE", `/admin/companies/${key}`, { token: app.admin })).status).toBe(204);
  const { status, body } = await app.http("POST", "/admin/companies", { token: app.admin, body: { key } });
  expect([status, body.message]).toEqual([
    409,
    `the key belonged to a deleted company whose history is kept; choose another key: ${key}`,
  ]);
  expect((await app.http("GET", `/admin/companies/${key}`, { token: app.admin })).status).toBe(404);
});

import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { type Json, startTestApp, type TestApp } from "../support/app.ts";

const tracecode = "11111111-2222-3333-4444-555555555555";
let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
  const service = await app.token(await app.user({ roles: ["BOT"] }));
  await app.http("PUT", `/admin/data/${tracecode}?username=admin`, { token: service, body: { kept: true } });
});
afterAll(() => app.stop());

const get = (path: string) => app.http("GET", path, { token: app.admin });

test("an empty period is an empty list, also where it begins today and ends by default", async () => {
  const today = new Date().toISOString().slice(0, 10);
  for (const period of ["from=2026-10-02&to=2026-10-02", `from=${today}`, `from=${today}&to=${today}`]) {
    expect(await get(`/admin/statistics?${period}`)).toMatchObject({ status: 200, body: { users: [] } });
    const report = await get(`/admin/report?${period}`);
    expect([report.status, report.headers.get("content-type")]).toEqual([
      200,
      "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ]);
  }
  const now = encodeURIComponent("2026-10-02T10:00:00Z");
  const audit = await get(`/admin/audit?from=${now}&to=${now}`);
  expect([audit.status, audit.body.actions, audit.body.statistics.filter]).toEqual([200, [], { total: 0 }]);
});

const examples: Readonly<Record<string, string>> = { "{key}": "administration", "{tracecode}": tracecode };
const { paths }: Json = parse(readFileSync("gen/openapi.yaml", "utf8"));
const operations = Object.entries<Json>(paths)
  .filter(([path, item]) => item.get !== undefined && !path.includes("/file/"))
  .map(([path, { get: operation }]) => ({
    path: path.replaceAll(/\{\w+\}/g, (name) => examples[name] ?? "admin"),
    optional: (operation.parameters ?? []).filter((one: Json) => one.in === "query" && one.required !== true),
    required: (operation.parameters ?? []).filter((one: Json) => one.in === "query" && one.required === true),
  }));

test.each(operations)("GET $path takes an empty optional query value for an absent one", async (operation) => {
  const { path, optional, required } = operation;
  const needed = required.map(({ name }: Json) => `${name}=admin`).join("&");
  const without = await get(`${path}?${needed}`);
  expect(without.status).toBe(200);
  const empty = optional.map(({ name }: Json) => `${name}=`).join("&");
  const answer = await get(`${path}?${needed}&${empty}`);
  expect(answer.status).toBe(200);
  // A report is a file, whose bytes say when it was made. A file has no optional parameter.
  const formOf = ({ body }: Json) => (path.endsWith("/report") ? "a file" : Object.keys(body));
  expect(formOf(answer)).toEqual(formOf(without));
});

test("an empty value of an unknown query parameter is refused", async () => {
  expect((await get("/admin/users?user=")).status).toBe(400);
});

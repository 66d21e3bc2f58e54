import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ COMMIT: "1a2b3c4" });
});
afterAll(() => app.stop());

test("the health check answers 1", async () => {
  expect((await app.http("GET", "/admin/system/check")).body).toEqual({ health: 1 });
});

test("the version endpoint answers the version of the package and the commit", async () => {
  const { version } = JSON.parse(readFileSync("package.json", "utf8"));
  const [major, minor, patch] = version.split(".").map(Number);
  expect((await app.http("GET", "/admin/system/version")).body).toEqual({ major, minor, build: `${patch}.1a2b3c4` });
});

test("the server serves the documentation, which loads nothing from other hosts", async () => {
  const { status, headers, body } = await app.http("GET", "/admin/file/admin_en.html");
  expect([status, headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
  expect(headers.get("content-disposition")).toBe('inline; filename="admin_en.html"');
  expect(body).toContain("/admin/quotas/{username}");
  expect(body).toContain("tollgate.v1.UserService");
  expect(body).not.toMatch(/<script |(src|href)="https?:|@import|url\(/);
  expect(body.length).toBeLessThan(400_000);
});

test("the documentation has an ETag and honors If-Match and If-None-Match", async () => {
  const path = "/admin/file/openapi.json";
  const etag = (await app.http("GET", path)).headers.get("etag") ?? "";
  expect(etag).toMatch(/^"[0-9a-f]{64}"$/);
  const get = async (headers: Record<string, string>) => {
    const answer = await app.http("GET", path, { headers });
    return [answer.status, answer.headers.get("etag")];
  };
  expect(await get({ "if-none-match": etag })).toEqual([304, etag]);
  expect(await get({ "if-none-match": '"other"' })).toEqual([200, etag]);
  expect(await get({ "if-match": etag })).toEqual([200, etag]);
  expect(await get({ "if-match": '"other"' })).toEqual([412, null]);
  expect((await fetch(`${app.url}${path}`, { method: "HEAD", headers: { "if-none-match": etag } })).status).toBe(304);
});

test.each(["missing.html", "..%2f..%2fpackage.json", "%2e%2e%2fopenapi.yaml", "buf.yaml", "%00admin_en.html"])(
  "the server answers 404 for the file %s",
  async (name) => {
    expect(await rawStatus(`/admin/file/${name}`)).toBe(404);
  },
);

test("the server refuses a path that leaves the folder of files", async () => {
  expect(await rawStatus("/admin/file/../../package.json")).toBe(404);
  expect(await rawStatus("/admin/file/..")).toBe(400);
});

/** Sends the path as it is: fetch would normalize it. */
function rawStatus(path: string): Promise<number | undefined> {
  return new Promise((done, fail) => {
    request(app.url, { path }, (response) => {
      response.resume();
      done(response.statusCode);
    })
      .on("error", fail)
      .end();
  });
}

test("the server serves the same OpenAPI document as YAML and as JSON", async () => {
  const yaml = await app.http("GET", "/admin/file/openapi.yaml");
  const json = await app.http("GET", "/admin/file/openapi.json");
  expect([yaml.status, yaml.headers.get("content-type")]).toEqual([200, "application/yaml"]);
  expect([json.status, json.headers.get("content-type")]).toEqual([200, "application/json"]);
  expect(json.body).toEqual(parse(yaml.body));
  expect(json.body.openapi).toBe("3.1.0");
});

test("HTTP/JSON writes durations in ISO 8601 and reads ISO 8601 and the protobuf form", async () => {
  const username = await app.user({ roles: ["USER"] });
  await app.setLimits(username, { points_per_request: 100 });
  for (const duration of ["PT1M20.5S", "80.500s"]) {
    const acquire = { username, service: "ROUTING", method_group: "PLAN", points: 5, operation_id: randomUUID() };
    const { body } = await app.http("POST", "/quota/leases", { token: app.admin, body: acquire });
    expect(body.lease.renew_interval).toBe("PT20S");
    const path = `/quota/leases/${body.lease.lease_id}:settle`;
    const settled = await app.http("POST", path, { token: app.admin, body: { points: 5, duration } });
    expect(settled.status).toBe(200);
  }
  const { body } = await app.http("GET", `/admin/audit?username=${username}`, { token: app.admin });
  expect(body.actions.map((action: { statistics: { duration: string } }) => action.statistics.duration)).toEqual([
    "PT1M20.5S",
    "PT1M20.5S",
  ]);
});

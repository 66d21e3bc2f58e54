import { readFileSync } from "node:fs";
import { request } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ COMMIT: "1a2b3c4" });
});
afterAll(() => app.stop());

test("checks itself", async () => {
  expect((await app.http("GET", "/admin/system/check")).body).toEqual({ health: 1 });
});

test("tells its version", async () => {
  const { version } = JSON.parse(readFileSync("package.json", "utf8"));
  const [major, minor, patch] = version.split(".").map(Number);
  expect((await app.http("GET", "/admin/system/version")).body).toEqual({ major, minor, build: `${patch}.1a2b3c4` });
});

test("serves the documentation, which needs nothing from elsewhere", async () => {
  const { status, headers, body } = await app.http("GET", "/admin/file/admin_en.html");
  expect([status, headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
  expect(headers.get("content-disposition")).toBe('inline; filename="admin_en.html"');
  expect(body).toContain("/admin/quotas/{username}");
  expect(body).toContain("tollgate.v1.UserService");
  expect(body).not.toMatch(/<script|(src|href)="https?:|@import|url\(/);
});

test.each(["missing.html", "..%2f..%2fpackage.json", "%2e%2e%2fopenapi.yaml", "openapi.yaml", "%00admin_en.html"])(
  "has no file %s",
  async (name) => {
    expect(await rawStatus(`/admin/file/${name}`)).toBe(404);
  },
);

test("a path with dots is no path", async () => {
  expect(await rawStatus("/admin/file/../../package.json")).toBe(404);
  expect(await rawStatus("/admin/file/..")).toBe(400);
});

/** fetch would tidy the path. */
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

import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CompanyService } from "#gen/tollgate/v1/company_pb.js";
import { UserService } from "#gen/tollgate/v1/user_pb.js";
import { type Json, password, startTestApp, type TestApp } from "../../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.stop());

const patch = (username: string, body: Json, token = app.admin) =>
  app.http("PATCH", `/admin/users/${username}`, { token, body });
const read = async (username: string) => (await app.http("GET", `/admin/users/${username}`, { token: app.admin })).body;
const full = { name: "Anna", email: "anna@company.com", phone: "+71112223333", roles: ["USER"], timezone: 3 };

test("changes the fields in the body, clears null fields and keeps the others", async () => {
  const username = await app.user(full);
  const before = await read(username);
  const blocked = await patch(username, { enabled: false });
  expect([blocked.status, blocked.body]).toEqual([200, { ...before, enabled: false }]);
  await patch(username, { name: null, timezone: 0, roles: [], enabled: true });
  expect(await read(username)).toEqual({ ...before, name: null, timezone: 0, roles: [] });
  expect((await patch(username, {})).body).toEqual({ ...before, name: null, timezone: 0, roles: [] });
});

test("keeps the password when it is absent or null, and replaces it otherwise", async () => {
  const username = await app.user(full);
  await patch(username, { name: "Other" });
  await patch(username, { password: null });
  await app.token(username);
  await patch(username, { password: "another password" });
  const login = (text: string) => app.http("POST", "/admin/token/generation", { body: { username, password: text } });
  expect((await login(password)).status).toBe(401);
  expect((await login("another password")).status).toBe(200);
});

test("accepts the caller's current password and refuses a new one", async () => {
  const username = await app.user({ ...full, roles: ["ADMIN"] });
  const own = await app.token(username);
  expect((await patch(username, { password }, own)).status).toBe(200);
  const { status, body } = await patch(username, { password: "another password" }, own);
  expect([status, body.validations]).toEqual([
    400,
    [{ field: "password", message: expect.stringContaining("/account/password") }],
  ]);
  await app.token(username);
});

test("accepts the content type of a merge patch", async () => {
  const username = await app.user(full);
  const headers = { "content-type": "application/merge-patch+json" };
  const body = { name: null };
  const answer = await app.http("PATCH", `/admin/users/${username}`, { token: app.admin, headers, body });
  expect([answer.status, answer.body.name]).toEqual([200, null]);
});

test.each<[Json, string]>([
  [{ enabled: null }, "enabled"],
  [{ timezone: null }, "timezone"],
  [{ company_key: null }, "company_key"],
  [{ roles: null }, "roles"],
  [{ username: "other" }, "username"],
  [{ timezone: 13 }, "timezone"],
  [{ company_key: "missing_company" }, "company_key"],
  [{ name: "x" }, "name"],
])("refuses %o, names the field and changes nothing", async (body, field) => {
  const username = await app.user(full);
  const before = await read(username);
  const answer = await patch(username, { phone: "12345", ...body });
  expect([answer.status, answer.body.validations?.[0]?.field]).toEqual([400, field]);
  expect(await read(username)).toEqual(before);
});

test("applies the authorization rules of an update", async () => {
  const company_key = await app.company();
  const partner = await app.token(await app.user({ company_key, roles: ["PARTNER"] }));
  const username = await app.user({ company_key });
  const chief = await app.user({ company_key, roles: ["ADMIN"] });
  const outsider = await app.user();
  expect((await patch(username, { name: "Anna" }, partner)).status).toBe(200);
  expect((await patch(username, { roles: ["ADMIN"] }, partner)).status).toBe(403);
  expect((await patch(username, { roles: ["BOT"] }, partner)).status).toBe(403);
  expect((await patch(chief, { name: "Anna" }, partner)).status).toBe(403);
  expect((await patch(outsider, { name: "Anna" }, partner)).status).toBe(404);
  expect((await patch(username, { name: "Anna" }, await app.token(username))).status).toBe(403);
  expect((await patch("admin", { enabled: false })).status).toBe(409);
  expect((await patch("missing", { enabled: false })).status).toBe(404);
});

test("records a patch in the audit log", async () => {
  const username = await app.user(full);
  await patch(username, { enabled: false });
  const { body } = await app.http("GET", "/admin/audit?operation_id=patch_user", { token: app.admin });
  expect(body.actions.some(({ resource }: Json) => resource === username)).toBe(true);
});

test("over gRPC a patch changes the fields of the mask, or the fields that are set when it has none", async () => {
  const username = await app.user(full);
  const options = { headers: { authorization: `Bearer ${app.admin}` } };
  const users = createClient(UserService, createGrpcTransport({ baseUrl: app.url }));
  const before = await read(username);
  await users.patchUser({ username, user: { enabled: false } }, options);
  expect(await read(username)).toEqual({ ...before, enabled: false });
  await users.patchUser(
    { username, user: { enabled: true }, updateMask: { paths: ["name", "roles", "enabled"] } },
    options,
  );
  expect(await read(username)).toEqual({ ...before, name: null, roles: [] });
  const masked = (paths: string[]) => users.patchUser({ username, user: {}, updateMask: { paths } }, options);
  await expect(masked(["username"])).rejects.toThrow("update_mask: must name only these fields: password, name,");
  await expect(masked(["timezone"])).rejects.toThrow("timezone: must not be null");
});

test("changes and clears a company's detail", async () => {
  const key = await app.company();
  const change = (body: Json) => app.http("PATCH", `/admin/companies/${key}`, { token: app.admin, body });
  expect((await change({ detail: "ours" })).body).toEqual({ key, detail: "ours" });
  expect((await change({})).body).toEqual({ key, detail: "ours" });
  expect((await change({ detail: null })).body).toEqual({ key, detail: null });
  expect((await change({ key: "other" })).status).toBe(400);
  expect((await app.http("PATCH", "/admin/companies/missing", { token: app.admin, body: {} })).status).toBe(404);
  const companies = createClient(CompanyService, createGrpcTransport({ baseUrl: app.url }));
  const options = { headers: { authorization: `Bearer ${app.admin}` } };
  const { company } = await companies.patchCompany({ key, company: { detail: "again" } }, options);
  expect(company?.detail).toBe("again");
});

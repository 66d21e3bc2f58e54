import { afterAll, beforeAll, expect, test } from "vitest";
import { type Json, password, startTestApp, type TestApp } from "../../support/app.ts";
import { startRedis } from "../../support/redis.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ LOGIN_FAILURES: "5", LOGIN_FAILURES_BY_ADDRESS: "100", TRUSTED_PROXIES: "1" });
});
afterAll(() => app.stop());

const login = (username: string, secret: string, fields: Json = {}, address = "10.0.0.1") =>
  app.http("POST", "/admin/token/generation", {
    body: { username, password: secret, ...fields },
    headers: { "x-forwarded-for": address },
  });
const validate = async (token: string) => (await app.http("POST", "/admin/token/validation", { body: { token } })).body;

test("a token identifies its user until it expires", async () => {
  const username = await app.user({ roles: ["PARTNER", "USER"] });
  const { token } = (await login(username, password, { ttl_seconds: 60 })).body;
  expect(await validate(token)).toEqual({ valid: true, username, roles: ["PARTNER", "USER"] });
  expect((await app.http("GET", `/admin/users/${username}`, { token })).status).toBe(200);
  app.advance(61_000);
  expect(await validate(token)).toEqual({ valid: false, username: null, roles: [] });
  expect((await app.http("GET", `/admin/users/${username}`, { token })).status).toBe(401);
});

test.each([
  ["altered", (token: string) => `${token.slice(0, -4)}AAAA`],
  ["without a signature", (token: string) => `${token.split(".").slice(0, 2).join(".")}.`],
  ["of the algorithm none", (token: string) => `${btoa('{"alg":"none"}')}.${token.split(".")[1]}.`],
  ["of another kind", () => "not a token at all"],
])("a token that is %s is not valid", async (_what, alter) => {
  expect((await validate(alter(app.admin))).valid).toBe(false);
  expect((await app.http("GET", "/admin/users", { token: alter(app.admin) })).status).toBe(401);
});

test.each([
  ["another scheme", "Basic YWRtaW46YWRtaW4="],
  ["no token", "Bearer"],
  ["a token and more", "Bearer a b"],
])("an authorization header with %s is refused", async (_what, authorization) => {
  const answer = await app.http("GET", "/admin/users", { headers: { authorization } });
  expect([answer.status, answer.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
});

test.each([59, 31_556_927])("refuses a token's life of %i seconds", async (ttl_seconds) => {
  const answer = await login("admin", "whatever", { ttl_seconds });
  expect([answer.status, answer.body.validations[0].field]).toEqual([400, "ttl_seconds"]);
});

test("gives the same answer for a wrong password, an unknown name, a disabled user and a user without a password", async () => {
  const disabled = await app.user({ enabled: false });
  const passwordless = await app.user({ password: null });
  const known = await app.user();
  const answers = await Promise.all([
    login(known, "wrong password"),
    login("no_such_user", password),
    login(disabled, password),
    login(passwordless, password),
  ]);
  for (const { status, body } of answers) expect([status, body.message]).toEqual([401, "wrong username or password"]);
});

test("a password change requires the current password and revokes earlier tokens", async () => {
  const username = await app.user({ roles: ["USER"] });
  const before = await app.token(username);
  const change = (current_password: string, token: string) =>
    app.http("POST", "/admin/password", { token, body: { current_password, new_password: "the next one" } });
  const wrong = await change("not the one", before);
  expect([wrong.status, wrong.body.validations[0].field]).toEqual([400, "current_password"]);
  expect((await validate(before)).valid).toBe(true);

  const { token } = (await change(password, before)).body;
  expect((await validate(before)).valid).toBe(false);
  expect((await validate(token)).username).toBe(username);
  expect((await login(username, password)).status).toBe(401);
  expect((await login(username, "the next one")).status).toBe(200);
});

test("applies a disable, a removal or a change of roles to the next request", async () => {
  const company_key = await app.company();
  const username = await app.user({ company_key, roles: ["PARTNER"] });
  const token = await app.token(username);
  const update = (fields: Json) =>
    app.http("PUT", "/admin/users", {
      token: app.admin,
      body: { username, company_key, roles: ["PARTNER"], ...fields },
    });
  const status = async () => (await app.http("GET", "/admin/users", { token })).status;
  expect(await status()).toBe(200);
  await update({ roles: ["USER"] });
  expect(await status()).toBe(403);
  await update({ enabled: false });
  expect(await status()).toBe(401);
  await update({});
  expect(await status()).toBe(401);
  await app.http("DELETE", `/admin/users/${username}`, { token: app.admin });
  expect(await status()).toBe(401);
});

test("a user who is enabled again needs a new login", async () => {
  const company_key = await app.company();
  const username = await app.user({ company_key, roles: ["PARTNER"] });
  const before = await app.token(username);
  for (const enabled of [false, true]) {
    const body = { username, company_key, roles: ["PARTNER"], enabled };
    expect((await app.http("PUT", "/admin/users", { token: app.admin, body })).status).toBe(200);
  }
  expect((await validate(before)).valid).toBe(false);
  expect((await app.http("GET", "/admin/users", { token: before })).status).toBe(401);
  expect((await app.http("GET", "/admin/users", { token: await app.token(username) })).status).toBe(200);
});

test("locks out only the pair of name and address that has failed too often", async () => {
  const username = await app.user();
  for (let failure = 0; failure < 5; failure += 1) {
    expect((await login(username, "wrong password", {}, "10.0.0.2")).status).toBe(401);
  }
  const slowed = await login(username, password, {}, "10.0.0.2");
  expect(slowed.status).toBe(429);
  expect(Number(slowed.headers.get("retry-after"))).toBeGreaterThan(800);
  expect((await login(username, password, {}, "10.0.0.3")).status).toBe(200);
  const secondName = await app.user();
  expect((await login(secondName, password, {}, "10.0.0.2")).status).toBe(200);
});

test("counts concurrent failures exactly", async () => {
  const username = await app.user();
  const tries = Array.from({ length: 20 }, () => login(username, "wrong password", {}, "10.0.0.4"));
  const statuses = (await Promise.all(tries)).map(({ status }) => status);
  expect(statuses.filter((status) => status === 401).length).toBe(5);
  expect(statuses.filter((status) => status === 429).length).toBe(15);
});

test("locks out an address that fails with many names", async () => {
  const statuses: number[] = [];
  // Each wave fits into the hash queue: a login that the queue refuses is not counted.
  for (let wave = 0; wave < 11; wave += 1) {
    const tries = Array.from({ length: 10 }, (_, index) => login(`guess_${wave}_${index}`, password, {}, "10.0.0.5"));
    statuses.push(...(await Promise.all(tries)).map(({ status }) => status));
  }
  expect(statuses.filter((status) => status === 429).length).toBe(10);
  expect((await login("admin", "first administrator", {}, "10.0.0.5")).status).toBe(429);
  expect((await login("admin", "first administrator", {}, "10.0.0.6")).status).toBe(200);
});

test("a successful login resets the failures before it", async () => {
  const username = await app.user();
  for (let round = 0; round < 3; round += 1) {
    for (let failure = 0; failure < 3; failure += 1) await login(username, "wrong password", {}, "10.0.0.7");
    expect((await login(username, password, {}, "10.0.0.7")).status).toBe(200);
  }
});

test("answers 401 for a wrong password of 1 to 1000 characters and 400 for any other length", async () => {
  const username = await app.user();
  const status = async (secret: string) => (await login(username, secret, {}, "10.0.0.8")).status;
  expect([await status("x"), await status("x".repeat(1000)), await status("x".repeat(1001)), await status("")]).toEqual(
    [401, 401, 400, 400],
  );
});

test("accepts a password in composed and decomposed Unicode form", async () => {
  const [composed, decomposed] = ["Pässwörd", "Pa\u0308sswo\u0308rd"];
  expect(decomposed).not.toBe(composed);
  const username = await app.user({ password: decomposed });
  expect((await login(username, composed)).status).toBe(200);
  expect((await login(username, decomposed)).status).toBe(200);
});

test("a token is shorter than 1000 characters, however long the names are", async () => {
  const company_key = "c".repeat(256);
  await app.http("POST", "/admin/companies", { token: app.admin, body: { key: company_key } });
  const username = await app.user({ username: "u".repeat(256), company_key, roles: ["PARTNER", "USER"] });
  expect((await app.token(username)).length).toBeLessThan(1000);
});

test("an update of the caller's own user accepts the current password and refuses a new one", async () => {
  const company_key = await app.company();
  const username = await app.user({ company_key, roles: ["PARTNER"] });
  const token = await app.token(username);
  const update = (secret: string) =>
    app.http("PUT", "/admin/users", { token, body: { username, company_key, roles: ["PARTNER"], password: secret } });
  expect((await update(password)).status).toBe(200);
  expect((await validate(token)).valid).toBe(true);
  const refused = await update("another password");
  expect([refused.status, refused.body.validations]).toEqual([
    400,
    [
      {
        field: "password",
        message: "must be your current password; change it with POST /admin/password or POST /account/password",
      },
    ],
  ]);
  expect((await login(username, password)).status).toBe(200);
});

test("logs neither passwords nor tokens", async () => {
  const username = await app.user();
  const token = await app.token(username);
  await login(username, "a wrong password");
  const log = JSON.stringify(app.log);
  expect(log).toContain("create_token");
  for (const secret of [password, token, "a wrong password", app.admin]) expect(log).not.toContain(secret);
});

test("another server refuses a deleted user and accepts the token of a new password", async () => {
  const redis = await startRedis();
  const first = await startTestApp({ REDIS_URL: redis.url });
  const second = await startTestApp({ DATABASE_URL: first.databaseUrl, REDIS_URL: redis.url });
  try {
    const username = await first.user({ roles: ["USER"] });
    const token = await first.token(username);
    const status = async (of: string) => (await second.http("GET", `/admin/users/${username}`, { token: of })).status;
    expect(await status(token)).toBe(200);
    const body = { current_password: password, new_password: "the next one" };
    const fresh = (await first.http("POST", "/admin/password", { token, body })).body.token;
    expect(await status(fresh)).toBe(200);
    expect(await status(token)).toBe(401);
    await first.http("DELETE", `/admin/users/${username}`, { token: first.admin });
    await expect.poll(() => status(fresh), { timeout: 5000 }).toBe(401);
  } finally {
    await second.stop();
    await first.stop();
    await redis.kill();
  }
});

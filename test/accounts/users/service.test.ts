import { afterAll, beforeAll, expect, test } from "vitest";
import { type Json, password, startTestApp, type TestApp } from "../../support/app.ts";

let app: TestApp;
let company_key: string;
beforeAll(async () => {
  app = await startTestApp();
  company_key = await app.company();
});
afterAll(() => app.stop());

const call = (method: string, path: string, body?: Json) => app.http(method, path, { token: app.admin, body });

const whole = {
  username: "my_username_for_login",
  name: "my_visible_name",
  email: "admin@company.com",
  phone: "+71112223333",
  enabled: true,
  roles: [],
  timezone: 3,
};

test("creates the specification's user and never returns the password", async () => {
  const created = await call("POST", "/admin/users", { ...whole, company_key, password: "my_password" });
  expect([created.status, created.body]).toEqual([201, { ...whole, company_key }]);
  expect((await call("GET", "/admin/users/my_username_for_login")).body).toEqual({ ...whole, company_key });
});

test("fills in the contract's defaults", async () => {
  const { body } = await call("POST", "/admin/users", { username: "plain", company_key, roles: ["USER"] });
  const defaults = { name: null, email: null, phone: null, enabled: true, timezone: 0 };
  expect(body).toEqual({ username: "plain", company_key, roles: ["USER"], ...defaults });
});

test("replaces a user, keeps an absent password and clears a null field", async () => {
  const username = await app.user({ company_key, name: "Before", email: "a@b.example", timezone: 5 });
  const token = await app.token(username);
  const { body } = await call("PUT", "/admin/users", { username, company_key, roles: ["USER"], name: null });
  expect(body).toMatchObject({ name: null, email: null, timezone: 0, roles: ["USER"] });
  expect((await app.http("GET", `/admin/users/${username}`, { token })).status).toBe(200);
  await app.token(username);
});

test("a password set by an administrator ends the user's tokens", async () => {
  const username = await app.user({ company_key, roles: ["USER"] });
  const token = await app.token(username);
  await call("PUT", "/admin/users", { username, company_key, roles: ["USER"], password: "a new one" });
  expect((await app.http("GET", `/admin/users/${username}`, { token })).status).toBe(401);
});

test.each<[Json, string]>([
  [{ username: "a" }, "username"],
  [{ username: "with space" }, "username"],
  [{ password: "1234" }, "password"],
  [{ name: "x" }, "name"],
  [{ name: "Anna\u0000" }, "name"],
  [{ phone: "+7111\u00002223" }, "phone"],
  [{ email: "a\u0000@example.org" }, "email"],
  [{ email: "unknown_user" }, "email"],
  [{ phone: "1234" }, "phone"],
  [{ company_key: undefined }, "company_key"],
  [{ roles: undefined }, "roles"],
  [{ roles: ["USER", "USER"] }, "roles"],
  [{ roles: ["USER", "PARTNER", "ADMIN"] }, "roles"],
  [{ roles: ["KING"] }, "roles[0]"],
  [{ roles: ["UNSPECIFIED"] }, "roles[0]"],
  [{ timezone: 13 }, "timezone"],
  [{ timezone: 1.5 }, "timezone"],
  [{ enabled: "yes" }, "enabled"],
  [{ company_key: "missing_company" }, "company_key"],
  [{ id: 1 }, "id"],
])("refuses %o and names %s", async (fields, field) => {
  const body = { username: "never_made", company_key, roles: [], ...fields };
  const answer = await call("POST", "/admin/users", body);
  expect([answer.status, answer.body.validations?.[0]?.field]).toEqual([400, field]);
  const lines = answer.body.validations.map((broken: Json) => `${broken.field}: ${broken.message}`);
  expect(answer.body.message).toBe(lines.join("; "));
  expect((await call("GET", "/admin/users/never_made")).status).toBe(404);
});

test("refuses a username that exists in any company", async () => {
  const username = await app.user({ company_key });
  const otherCompany = await app.company();
  const answer = await call("POST", "/admin/users", { username, company_key: otherCompany, roles: [] });
  expect([answer.status, answer.body.message]).toEqual([409, `user already exists: ${username}`]);
});

test("creates a user once when 20 callers create it at once", async () => {
  const body = { username: "raced", company_key, roles: [] };
  const answers = await Promise.all(Array.from({ length: 20 }, () => call("POST", "/admin/users", body)));
  expect(answers.map(({ status }) => status).toSorted()).toEqual([201, ...Array.from({ length: 19 }, () => 409)]);
});

test("lists by company, group, filter and order, with the totals of both", async () => {
  const own = await app.company();
  await app.user({ username: "list_anna", company_key: own, roles: ["ADMIN"], name: "Анна Ёлкина" });
  await app.user({ username: "list_bert", company_key: own, enabled: false, name: "Bert" });
  await app.user({ username: "list_carl", company_key: own, roles: ["ADMIN"], enabled: false });
  await app.user({ username: "list_dora", company_key: own, email: "dora@example.com" });
  const list = async (query: string) => (await call("GET", `/admin/users?company_key=${own}&${query}`)).body;
  const names = (body: Json) => body.users.map(({ username }: Json) => username.slice(5));

  const all = await list("sort_field=username&sort_direction=DESC");
  expect(names(all)).toEqual(["dora", "carl", "bert", "anna"]);
  expect(all.statistics.filter).toEqual({ total: 4, active: 2, blocked: 2, admins: 2 });
  const { rows } = await app.database.raw(`
    select count(*) as total, count(*) filter (where enabled) as active, count(*) filter (where not enabled) as blocked,
      count(*) filter (where 'ADMIN' = any (roles)) as admins from user_account`);
  expect(all.statistics.overall).toEqual(rows[0]);

  const active = await list("user_group=ACTIVE");
  expect([names(active), active.statistics.filter]).toEqual([
    ["anna", "dora"],
    { total: 2, active: 2, blocked: 0, admins: 1 },
  ]);
  const blocked = await list("user_group=BLOCKED");
  expect([names(blocked), blocked.statistics.filter]).toEqual([
    ["bert", "carl"],
    { total: 2, active: 0, blocked: 2, admins: 1 },
  ]);
  const admins = await list("user_group=ADMINS&limit=1&offset=1");
  expect([names(admins), admins.statistics.filter]).toEqual([["carl"], { total: 2, active: 1, blocked: 1, admins: 2 }]);
  expect(names(await list(`filter=${encodeURIComponent("аННА ё")}`))).toEqual(["anna"]);
  const mail = await list("filter=EXAMPLE.com&user_group=TOTAL");
  expect([names(mail), mail.statistics.filter]).toEqual([["dora"], { total: 1, active: 1, blocked: 0, admins: 0 }]);
});

test("the pages of all users join to one list, and each has the totals, past its end too", async () => {
  const pageOf = async (limit: number, offset: number) =>
    (await call("GET", `/admin/users?limit=${limit}&offset=${offset}`)).body;
  const names = (body: Json) => body.users.map(({ username }: Json) => username);
  for (let count = 0; count < 6; count += 1) await app.user();
  const { rows } = await app.database.raw(`
    select array_agg(username order by username) as usernames, count(*) as total,
      count(*) filter (where enabled) as active, count(*) filter (where not enabled) as blocked,
      count(*) filter (where 'ADMIN' = any (roles)) as admins from user_account`);
  const [{ usernames, ...totals }] = rows;
  const [first, second, past] = await Promise.all([pageOf(3, 0), pageOf(3, 3), pageOf(3, usernames.length)]);
  expect([names(first), names(second), names(past)]).toEqual([usernames.slice(0, 3), usernames.slice(3, 6), []]);
  for (const { statistics } of [first, second, past]) expect(statistics).toEqual({ overall: totals, filter: totals });
});

test.each(["username", "name", "email", "phone", "company_key", "enabled", "roles", "timezone"])(
  "sorts by %s",
  async (field) => {
    const ascending = await call("GET", `/admin/users?sort_field=${field}&limit=1000`);
    const descending = await call("GET", `/admin/users?sort_field=${field}&sort_direction=DESC&limit=1000`);
    const order = (body: Json) => body.users.map(({ username }: Json) => username);
    expect(ascending.status).toBe(200);
    expect(order(ascending.body).length).toBeGreaterThan(5);
    expect(order(descending.body)).toEqual(order(ascending.body).toReversed());
  },
);

test("a partner's list and totals are those of the own company", async () => {
  const own = await app.company();
  const partner = await app.user({ company_key: own, roles: ["PARTNER"] });
  await app.user({ company_key: own });
  const token = await app.token(partner);
  const { body } = await app.http("GET", "/admin/users", { token });
  expect(body.users.map(({ company_key: key }: Json) => key)).toEqual([own, own]);
  expect(body.statistics.overall.total).toBe(2);
  const elsewhere = await app.http("GET", `/admin/users?company_key=${company_key}`, { token });
  expect([elsewhere.body.users, elsewhere.body.statistics.filter.total]).toEqual([[], 0]);
});

test("returns a list longer than a page complete, in order and as valid JSON", async () => {
  const own = await app.company();
  await app.database.raw(
    `insert into user_account (username, company_key, enabled, roles, timezone)
     select 'many_' || lpad(i::text, 5, '0'), ?, true, '{}', 0 from generate_series(1, 3500) as i`,
    [own],
  );
  const { body } = await call("GET", `/admin/users?company_key=${own}&limit=10000000&offset=100`);
  expect(body.users.length).toBe(3400);
  expect([body.users[0].username, body.users.at(-1).username]).toEqual(["many_00101", "many_03500"]);
  expect(body.statistics.filter.total).toBe(3500);
});

test("the totals stay right under concurrent changes", async () => {
  const own = await app.company();
  const change = async (index: number) => {
    const username = await app.user({ company_key: own, roles: index % 2 === 0 ? ["ADMIN"] : [] });
    await call("PUT", "/admin/users", { username, company_key: own, roles: [], enabled: index % 3 !== 0 });
    if (index % 4 === 0) await call("DELETE", `/admin/users/${username}`);
  };
  await Promise.all(Array.from({ length: 24 }, (_, index) => change(index)));
  const { body } = await call("GET", `/admin/users?company_key=${own}`);
  const active = body.users.filter(({ enabled }: Json) => enabled).length;
  expect(body.statistics.filter).toEqual({ total: 18, active, blocked: 18 - active, admins: 0 });
});

test("a user created with a deleted user's name gets neither its tokens nor its quotas", async () => {
  const username = await app.user({ company_key, roles: ["USER"] });
  const token = await app.token(username);
  const services = [{ service: "ROUTING", methods: [{ method_group: "PLAN", points_per_day: 5 }] }];
  await call("PUT", `/admin/quotas/${username}`, { services });
  await call("DELETE", `/admin/users/${username}`);
  expect((await app.http("GET", `/admin/users/${username}`, { token })).status).toBe(401);
  await call("POST", "/admin/users", { username, company_key, roles: ["USER"], password });
  expect((await app.http("GET", `/admin/users/${username}`, { token })).status).toBe(401);
  expect((await call("GET", `/admin/quotas/${username}`)).body.base).toEqual({ services: [] });
});

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Json, password, startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ TRUSTED_PROXIES: "1", LOGIN_FAILURES: "3", LOGIN_FAILURES_BY_ADDRESS: "40" });
});
afterAll(() => app.stop());

let networks = 0;
/** An address that no other test uses. */
const address = () => `10.1.${(networks += 1)}.1`;
const login = (username: string, secret: string, from: string) =>
  app.http("POST", "/admin/token/generation", {
    body: { username, password: secret },
    headers: { "x-forwarded-for": from },
  });

/** The actions of the log that have these operations, oldest first. */
async function read(operations: readonly string[], query: Record<string, string> = {}, token = app.admin) {
  const found = await Promise.all(
    operations.map(async (operation_id) => {
      const path = `/admin/audit?${new URLSearchParams({ operation_id, limit: "10000", ...query }).toString()}`;
      let actions: Json[] = [];
      // An event may be written between the count and the list.
      const difference = async () => {
        const { status, body } = await app.http("GET", path, { token });
        if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`);
        actions = body.actions;
        return body.statistics.filter.total - actions.length;
      };
      await expect.poll(difference).toBe(0);
      return actions;
    }),
  );
  return found.flat();
}

/** Sums the counts of equal actions, sorted: repetitions within a minute are in a second row. */
function summary(actions: readonly Json[]): string[] {
  const counts = new Map<string, number>();
  for (const { username, tracedata, resource, outcome, address: from, count } of actions) {
    const what = [username, tracedata.operation, resource, outcome, from].map((part) => part ?? "-").join(" ");
    counts.set(what, (counts.get(what) ?? 0) + count);
  }
  return [...counts].map(([what, count]) => `${what} ${count}`).toSorted();
}

/** Waits for the expected log after one minute, when repetitions are flushed. */
async function expectSoon(read: () => Promise<unknown>, expected: unknown): Promise<void> {
  app.advance(61_000);
  await expect.poll(read, { timeout: 20_000 }).toEqual(expected);
}
const partnerOf = async (company_key: string): Promise<string> =>
  app.token(await app.user({ company_key, roles: ["PARTNER"] }));

describe("logins", () => {
  const operations = ["login", "login_lockout"];

  test("are listed with their outcome, network and count, and so are lockouts", async () => {
    const username = await app.user();
    const from = address();
    await login(username, password, from);
    for (const wrong of ["wrong one", "wrong two", "wrong three"]) await login(username, wrong, from);
    expect((await login(username, password, from)).status).toBe(429);
    const seen = async (query: Record<string, string>) => summary(await read(operations, { username, ...query }));
    await expectSoon(
      () => seen({}),
      [
        `${username} login - FAILURE ${from} 3`,
        `${username} login - SUCCESS ${from} 1`,
        `${username} login_lockout - FAILURE ${from} 1`,
      ],
    );
    expect(await seen({ outcome: "SUCCESS" })).toEqual([`${username} login - SUCCESS ${from} 1`]);
    expect(await seen({ outcome: "FAILURE" })).toHaveLength(2);
    const own = await app.token(username);
    const { body } = await app.http("GET", "/account/audit?outcome=FAILURE", { token: own });
    expect(summary(body.actions)).toEqual(await seen({ outcome: "FAILURE" }));
  });

  test("with unknown names are counted by network, without the name, and shown to administrators only", async () => {
    const from = address();
    const names = ["my_own_secret_1", "my_own_secret_2", "my_own_secret_3"];
    for (const name of names) await login(name, "typed into the wrong field", from);
    const company_key = "__unknown__";
    await app.http("POST", "/admin/companies", { token: app.admin, body: { key: company_key } });
    const ofNetwork = async (token = app.admin) =>
      (await read(["login"], { username: "__unknown__" }, token)).filter((event) => event.address === from);
    await expectSoon(async () => summary(await ofNetwork()), [`__unknown__ login - FAILURE ${from} 3`]);
    expect(await ofNetwork(await partnerOf(company_key))).toEqual([]);
    const rows = JSON.stringify(await app.database("audit_action").select());
    for (const text of [...names, "wrong field"]) expect(rows).not.toContain(text);
  });

  test("with names of another company are hidden from a partner like unknown names", async () => {
    const company_key = await app.company();
    const partner = await partnerOf(company_key);
    const own = await app.user({ company_key });
    const outsider = await app.user();
    const from = address();
    for (const name of [own, outsider, "no_such_user"]) await login(name, "wrong", from);
    const list = async (token: string) => {
      const all = await read(["login"], { outcome: "FAILURE" }, token);
      return all.filter((event) => event.address === from).map(({ username }) => username);
    };
    const ofAll = ["__unknown__", own, outsider].toSorted();
    await expectSoon(async () => [...new Set(await list(app.admin))].toSorted(), ofAll);
    expect(await list(partner)).toEqual([own]);
    for (const username of [outsider, "no_such_user", "__unknown__"]) {
      expect(await read(["login"], { username }, partner)).toEqual([]);
    }
  });

  test("of a flood are written as one row with a count for each name and network", async () => {
    const username = await app.user();
    const from = address();
    const before = await app.database("audit_action").count().first();
    const tries = Array.from({ length: 300 }, (_none, index) =>
      login(index % 2 === 0 ? username : `guess_${index}`, `wrong ${index}`, from),
    );
    const answers = await Promise.all(tries);
    const answered = (status: number) => answers.filter((answer) => answer.status === status).length;
    expect(answered(401) + answered(429)).toBeGreaterThan(100);
    // Repetitions are written a minute later.
    app.advance(61_000);
    const times = async (operation: string) =>
      (await app.database("audit_action").where({ address: from, operation }).sum("times").first())?.sum ?? 0;
    await expect.poll(() => times("login"), { timeout: 20_000 }).toBe(answered(401));
    // The start of a lockout is counted too.
    await expect.poll(() => times("login_lockout"), { timeout: 20_000 }).toBeGreaterThanOrEqual(answered(429) + 1);
    expect(await times("login_lockout")).toBeLessThanOrEqual(answered(429) + 10);
    // Failures and lockouts, with and without a name, each written at most twice.
    expect(Number((await app.database("audit_action").where({ address: from }).count().first())?.count)).toBeLessThan(
      9,
    );
    const after = await app.database("audit_action").count().first();
    expect(Number(after?.count) - Number(before?.count)).toBeLessThanOrEqual(20);
  });

  test("do not wait for the audit log and are recorded when it is writable again", async () => {
    const username = await app.user();
    const from = address();
    const lock = await app.database.transaction();
    await lock.raw("lock table audit_action in access exclusive mode");
    const statuses = [await login(username, password, from), await login(username, "wrong", from)];
    expect(statuses.map(({ status }) => status)).toEqual([200, 401]);
    const waits = async () => {
      const { rows } = await app.database.raw(
        "select from pg_locks where not granted and relation = 'audit_action'::regclass",
      );
      return rows.length;
    };
    // Logins are answered although the flush waits for the lock.
    await expect.poll(waits, { timeout: 10_000 }).toBeGreaterThan(0);
    expect((await login(username, password, from)).status).toBe(200);
    await lock.rollback();
    await expectSoon(
      async () => summary(await read(["login"], { username })),
      [`${username} login - FAILURE ${from} 1`, `${username} login - SUCCESS ${from} 2`],
    );
  });
});

describe("changes of a user", () => {
  const operations = ["change_password", "change_roles", "revoke_tokens", "update_user", "patch_user", "delete_user"];
  const changes: [what: string, change: (username: string) => Promise<{ status: number }>, events: string[]][] = [
    ["a name", (name) => patch(name, { name: "Anna" }), ["patch_user"]],
    ["the same roles in another order", (name) => patch(name, { roles: ["BOT", "USER"] }), ["patch_user"]],
    ["roles", (name) => patch(name, { roles: ["USER"] }), ["change_roles", "patch_user"]],
    [
      "a password",
      (name) => patch(name, { password: "another horse" }),
      ["change_password", "patch_user", "revoke_tokens"],
    ],
    ["a disable", (name) => patch(name, { enabled: false }), ["patch_user", "revoke_tokens"]],
    [
      "a removal",
      (name) => app.http("DELETE", `/admin/users/${name}`, { token: app.admin }),
      ["delete_user", "revoke_tokens"],
    ],
  ];
  const patch = (username: string, body: Json) =>
    app.http("PATCH", `/admin/users/${username}`, { token: app.admin, body });

  test.each(changes)("%s: records its events", async (_what, change, events) => {
    const username = await app.user({ roles: ["USER", "BOT"] });
    expect((await change(username)).status).toBeLessThan(300);
    const found = (await read(operations, { outcome: "SUCCESS" })).filter(({ resource }) => resource === username);
    expect(found.map(({ tracedata }) => tracedata.operation).toSorted()).toEqual(events);
    expect(found.every((event) => event.username === "admin")).toBe(true);
  });

  test("a user's own password: records its events", async () => {
    const username = await app.user();
    const body = { current_password: password, new_password: "another horse" };
    await app.http("POST", "/admin/password", { token: await app.token(username), body });
    const found = await read(["update_password", "change_password", "revoke_tokens"], { username });
    expect(found.map(({ tracedata, resource }) => `${tracedata.operation} ${resource}`)).toEqual([
      `update_password ${username}`,
      `change_password ${username}`,
      `revoke_tokens ${username}`,
    ]);
  });
});

describe("reads of another user's", () => {
  const tracecode = randomUUID();
  const reads: [operation: string, path: (username: string) => string][] = [
    ["read_user", (name) => `/admin/users/${name}`],
    ["read_quotas", (name) => `/admin/quotas/${name}`],
    ["read_user_alert_thresholds", (name) => `/admin/users/${name}/alert-thresholds`],
    ["read_statistics", (name) => `/admin/statistics?username=${name}`],
    ["read_report", (name) => `/admin/report?username=${name}`],
    ["read_audit", (name) => `/admin/audit?username=${name}`],
    ["read_data", () => `/admin/data/${tracecode}`],
    ["read_data_files", () => `/admin/data/${tracecode}/files`],
    ["get_quota_usage", (name) => `/quota/usage/${name}`],
    ["list_leases", (name) => `/quota/leases?username=${name}`],
  ];

  test("data are recorded for administrators and partners, and shown to the partners of the user's company", async () => {
    const company_key = await app.company();
    const username = await app.user({ company_key, roles: ["USER"] });
    const reader = await app.user({ company_key, roles: ["PARTNER"] });
    const partner = await app.token(reader);
    await app.http("PUT", `/admin/data/${tracecode}?username=${username}`, { token: app.admin, body: {} });
    const own = await app.token(username);
    for (const [operation, path] of reads) {
      for (const token of [app.admin, partner, own]) {
        const { status, body } = await app.http("GET", path(username), { token });
        expect([operation, status, body.message]).toEqual([operation, 200, undefined]);
      }
    }
    const operations = reads.map(([operation]) => operation);
    const readers = async (token: string) => {
      const found = await read(operations, {}, token);
      const about = found.filter((event) => event.resource === username);
      return about.map(({ username: reader, tracedata }) => `${tracedata.operation} ${reader}`).toSorted();
    };
    const expected = operations.flatMap((operation) => [`${operation} admin`, `${operation} ${reader}`]).toSorted();
    await expectSoon(() => readers(partner), expected);
    expect(await readers(app.admin)).toEqual(expected);
    expect(await readers(own)).toEqual([]);
    expect(await readers(await partnerOf(await app.company()))).toEqual([]);
    expect(await app.database("usage_with_pending").where({ username })).toEqual([]);
  });

  test("lists are recorded as reads of a company or of everything, and reads of own data are not", async () => {
    const company_key = await app.company();
    const username = await app.user({ company_key, roles: ["PARTNER"] });
    const partner = await app.token(username);
    for (const path of [
      "/admin/users",
      `/admin/users/${username}`,
      "/admin/report",
      `/admin/report?username=${username}`,
    ]) {
      expect((await app.http("GET", path, { token: partner })).status).toBe(200);
    }
    const found = async () => summary(await read(["read_user", "read_users", "read_report"], { username }, partner));
    await expectSoon(found, [
      `${username} read_report ${company_key} SUCCESS - 1`,
      `${username} read_users ${company_key} SUCCESS - 1`,
    ]);
  });
});

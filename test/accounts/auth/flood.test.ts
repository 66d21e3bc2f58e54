import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { password, startTestApp, type TestApp } from "../../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  // With LEDGER_ACK=commit a grant is answered only when the ledger has it.
  const settings = { LOGIN_FAILURES: "5", TRUSTED_PROXIES: "1", LEDGER_ACK: "commit" };
  app = await startTestApp(settings, { hashesAtFullCost: true });
});
afterAll(() => app.stop());

const login = (username: string, secret: string, address = "10.0.0.1") =>
  app.http("POST", "/admin/token/generation", {
    body: { username, password: secret },
    headers: { "x-forwarded-for": address },
  });

test("logins that wait for PostgreSQL delay neither other requests nor the ledger", async () => {
  const username = await app.user();
  const { id } = await app.database("user_account").where({ username }).first("id");
  await app.database("quota").insert({
    user_id: id,
    service: "ROUTING",
    method_group: "PLAN",
    points_per_request: 1000,
    points_per_day: 1000,
    max_concurrent_execution: 100,
  });
  const acquire = () =>
    app.http("POST", "/quota/leases", {
      token: app.admin,
      body: { username, service: "ROUTING", method_group: "PLAN", points: 1, operation_id: randomUUID() },
    });
  const lock = await app.database.transaction();
  await lock.raw("lock table login_attempt in access exclusive mode");
  const flood = Array.from({ length: 300 }, (_, index) => login(`nobody_${index}`, "wrong", `10.0.${index % 50}.1`));
  const waiting = async () => {
    const { rows } = await app.database.raw(
      "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    return rows.length;
  };
  await expect.poll(waiting, { timeout: 20_000 }).toBeGreaterThan(0);
  const answers = await Promise.all([
    ...Array.from({ length: 20 }, () => app.http("GET", `/admin/users/${username}`, { token: app.admin })),
    ...Array.from({ length: 20 }, acquire),
    app.http("GET", "/admin/system/check"),
  ]);
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  expect(await waiting()).toBeLessThanOrEqual(2);
  await lock.rollback();
  const statuses = new Set((await Promise.all(flood)).map(({ status }) => status));
  expect([...statuses].toSorted()).toEqual([401, 503]);
  expect(app.log.filter(({ msg }) => msg === "batch write interrupted")).toEqual([]);
});

test("accepts 20 correct logins for one name at once and counts no failure", async () => {
  const username = await app.user();
  const answers = await Promise.all(Array.from({ length: 20 }, () => login(username, password, "10.1.0.1")));
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  const { rows } = await app.database.raw("select points from login_attempt where key like '%10.1.0.1%'");
  expect(rows).toEqual([]);
});

test("checks no more than the limit of 40 passwords sent at once", async () => {
  const username = await app.user();
  const guesses = Array.from({ length: 40 }, (_, index) => (index === 39 ? password : `guess number ${index}`));
  const answers = await Promise.all(guesses.map((guess) => login(username, guess, "10.1.0.2")));
  const count = (status: number) => answers.filter((answer) => answer.status === status).length;
  expect([count(401), count(200), count(429)]).toEqual([5, 0, 35]);
});

test("counts no failure in a flood of correct logins", async () => {
  const username = await app.user();
  const flood = Array.from({ length: 90 }, () => login(username, password, "10.2.0.1"));
  const statuses = new Set((await Promise.all(flood)).map(({ status }) => status));
  expect([...statuses].toSorted()).toEqual([200, 503]);
  const { rows } = await app.database.raw("select points from login_attempt where key like '%10.2.0.1%'");
  expect(rows).toEqual([]);
});

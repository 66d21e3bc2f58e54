import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Json } from "../support/app.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startProcess } from "../support/process.ts";
import { addressOf, startProxy } from "../support/proxy.ts";
import { noRedis, startRedis } from "../support/redis.ts";

const keys = { TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough", ADMIN_PASSWORD: "first administrator" };
const command = [process.execPath, "--import", "tsx", "--import", "./test/support/fault-on-signal.ts", "src/main.ts"];

let fixture: TestDatabase;
beforeAll(async () => {
  fixture = await createTestDatabase();
});
afterAll(() => fixture.drop());

test.each(["rejection", "exception"])(
  "an unexpected %s is logged, and the process drains and ends with 2",
  async (kind) => {
    const server = await startProcess({ ...keys, DATABASE_URL: fixture.url, FAULT: kind }, command);
    const lock = await fixture.database.transaction();
    await lock.raw("lock table user_account in access exclusive mode");
    const running = fetch(`${server.url}/admin/token/generation`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username: "admin", password: keys.ADMIN_PASSWORD }),
    });
    const isWaiting = async () =>
      (await fixture.database.raw("select 1 from pg_stat_activity where wait_event_type = 'Lock'")).rows.length;
    await expect.poll(isWaiting).toBe(1);
    const ended = server.end("SIGUSR2");
    await expect.poll(() => server.output()).toContain(`planted ${kind}`);
    await lock.rollback();
    expect([(await running).status, await ended]).toEqual([200, 2]);
  },
);

describe.skipIf(noRedis !== "")(`with workers ${noRedis}`, () => {
  test("a worker with an unexpected error drains and is replaced while the other workers serve", async () => {
    const redis = await startRedis();
    const server = await startProcess(
      { ...keys, DATABASE_URL: fixture.url, REDIS_URL: redis.url, WORKERS: "2" },
      command,
    );
    const { pid } = server.process;
    const workers = () => readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean);
    const before = workers();
    process.kill(Number(before[0]), "SIGUSR2");
    await expect.poll(() => workers().filter((pid) => !before.includes(pid)).length, { timeout: 20_000 }).toBe(1);
    await expect.poll(() => server.output()).toContain('"code":2');
    const sessions =
      "select 1 from pg_stat_activity where application_name = 'tollgate_notifications' and datname = current_database()";
    const serving = async () => (await fixture.database.raw(sessions)).rows.length;
    await expect.poll(serving, { timeout: 30_000 }).toBe(2);
    expect((await fetch(`${server.url}/admin/system/check`)).status).toBe(200);
    expect(await server.end()).toBe(0);
    await redis.kill();
  }, 180_000);
});

test("logs the number of ledger entries lost at the end of the drain, and exits with 3", async () => {
  const proxy = await startProxy(addressOf(fixture.url));
  const server = await startProcess({ ...keys, DATABASE_URL: proxy.url(fixture.url), DRAIN_MS: "300" });
  const post = async (path: string, body: object, token = ""): Promise<Json> =>
    (
      await fetch(`${server.url}${path}`, {
        method: "POST",
        headers: { "content-type": "application/json", ...(token !== "" && { authorization: `Bearer ${token}` }) },
        body: JSON.stringify(body),
      })
    ).json();
  const { token } = await post("/admin/token/generation", { username: "admin", password: keys.ADMIN_PASSWORD });
  const { id } = await fixture.database("user_account").where({ username: "admin" }).first("id");
  await fixture.database("quota").insert({
    user_id: id,
    service: "ROUTING",
    method_group: "PLAN",
    points_per_request: 1000,
    points_per_day: 1000,
    max_concurrent_execution: 100,
  });
  const acquire = () =>
    post(
      "/quota/leases",
      { username: "admin", service: "ROUTING", method_group: "PLAN", points: 1, operation_id: randomUUID() },
      token,
    );
  // The response comes after the server has processed the notification of the quota: its cache is fresh from here on.
  await post("/admin/companies", { key: "company_1" }, token);
  await acquire();
  await expect.poll(() => fixture.database("lease").count()).toEqual([{ count: 1 }]);
  await proxy.refuse();
  for (const _lease of [1, 2, 3]) expect((await acquire()).lease.state).toBe("ACTIVE");
  expect(await server.end()).toBe(3);
  await expect.poll(() => server.output()).toMatch(/"unwritten":3/);
  await proxy.close();
});

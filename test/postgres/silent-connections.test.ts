import { Code } from "@connectrpc/connect";
import pino from "pino";
import { afterAll, beforeAll, describe, type TestContext, test } from "vitest";
import { type Database, openDatabase } from "../../src/postgres/database.ts";
import { toDatabaseError } from "../../src/postgres/errors.ts";
import { openNotifications } from "../../src/postgres/notifications.ts";
import { openRedis } from "../../src/redis/client.ts";
import { createOutageLog } from "../../src/shared/outage-log.ts";
import { startTestApp } from "../support/app.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { addressOf, type Proxy, startProxy } from "../support/proxy.ts";
import { noOwnRedis, startRedis } from "../support/redis.ts";

const logger = pino({ level: "silent" });
const codeOf = (work: PromiseLike<unknown>) =>
  Promise.resolve(work).then(
    () => undefined,
    (error: unknown) => toDatabaseError(error).code,
  );

let fixture: TestDatabase;
beforeAll(async () => {
  fixture = await createTestDatabase();
});
afterAll(() => fixture.drop());

/** A proxy before PostgreSQL, for one test: each waits for limits that pass in real time, so they run at once. */
async function openProxy(onTestFinished: TestContext["onTestFinished"]): Promise<Proxy> {
  const proxy = await startProxy(addressOf(fixture.url));
  onTestFinished(() => proxy.close());
  return proxy;
}

describe.concurrent("a pool", () => {
  async function openPool(
    onTestFinished: TestContext["onTestFinished"],
  ): Promise<{ proxy: Proxy; database: Database }> {
    const proxy = await openProxy(onTestFinished);
    const database = openDatabase({ url: proxy.url(fixture.url), poolSize: 1, statementTimeoutMs: 200 });
    onTestFinished(() => database.destroy());
    return { proxy, database };
  }

  test("replaces a connection that has gone silent", async ({ onTestFinished, expect }) => {
    const { proxy, database } = await openPool(onTestFinished);
    await database.raw("select 1");
    proxy.blackHole("established");
    expect(await codeOf(database.raw("select 1"))).toBe(Code.Unavailable);
    expect((await database.raw("select 2 as two")).rows).toEqual([{ two: 2 }]);
  });

  test("waits for a statement that PostgreSQL is still running", async ({ onTestFinished, expect }) => {
    const { database } = await openPool(onTestFinished);
    const slow = database.transaction(async (transaction) => {
      await transaction.raw("set local statement_timeout = 0");
      return (await transaction.raw("select 'done' as state, pg_sleep(3)")).rows[0].state as string;
    });
    expect(await slow).toBe("done");
  });
});

test.concurrent("notifications arrive again after their connection has gone silent, and catching up is not delayed", async ({
  onTestFinished,
  expect,
}) => {
  const proxy = await openProxy(onTestFinished);
  const heard: (readonly number[] | "all")[] = [];
  const notifications = await openNotifications({
    url: proxy.url(fixture.url),
    logger,
    outages: createOutageLog(logger, "postgresql"),
    onUsers: (users) => void heard.push(users),
    onGeneration: () => undefined,
    onRecall: async () => undefined,
    onFlush: async () => undefined,
  });
  proxy.blackHole("established");
  await notifications.caughtUp();
  expect(heard.at(-1)).toBe("all");
  await expect.poll(() => codeOf(notifications.barrier()), { timeout: 10_000 }).toBe(undefined);
  await fixture.database.raw("select pg_notify('tollgate', 'user 7')");
  await expect.poll(() => heard.at(-1), { timeout: 10_000 }).toEqual([7]);
  await notifications.close();
});

test.skipIf(noOwnRedis !== "").concurrent("replaces a Redis connection that has gone silent", async ({ expect }) => {
  const server = await startRedis();
  const way = await startProxy(addressOf(server.url));
  const redis = openRedis(way.url(server.url), logger);
  await expect.poll(() => redis.status).toBe("ready");
  way.blackHole("established");
  await expect(redis.get("key")).rejects.toThrow();
  await expect.poll(() => redis.get("key").catch(() => "away"), { timeout: 10_000 }).toBe(null);
  redis.disconnect();
  await way.close();
  await server.kill();
});

test("a change whose commit gets no response fails with UNAVAILABLE and can be read", async ({
  onTestFinished,
  expect,
}) => {
  const proxy = await openProxy(onTestFinished);
  const app = await startTestApp({ DATABASE_URL: proxy.url(fixture.url), DATABASE_TIMEOUT_MS: "500" });
  const username = await app.user();
  const lock = await fixture.database.transaction();
  await lock.raw("lock table audit_action in access exclusive mode");
  const services = [{ service: "ROUTING", methods: [{ method_group: "PLAN", points_per_day: 7 }] }];
  const change = app.http("PUT", `/admin/quotas/${username}`, { token: app.admin, body: { services } });
  const waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
  await expect.poll(async () => (await fixture.database.raw(waiting)).rows.length).toBeGreaterThan(0);
  proxy.loseAnswers();
  await lock.rollback();
  expect((await change).status).toBe(503);
  const read = async () => (await app.http("GET", `/admin/quotas/${username}`, { token: app.admin })).status;
  await expect.poll(read, { timeout: 10_000 }).toBe(200);
  await app.stop();
});

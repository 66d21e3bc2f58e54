import { Code } from "@connectrpc/connect";
import pino from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { toDatabaseError } from "../../src/postgres/errors.ts";
import { type Notifications, openNotifications } from "../../src/postgres/notifications.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let stand: TestDatabase;
let opened: Notifications[] = [];
const logged: { msg: string }[] = [];
const logger = pino({}, { write: (line: string) => logged.push(JSON.parse(line)) });
beforeEach(async () => {
  stand = await createTestDatabase();
  logged.length = 0;
});
afterEach(async () => {
  for (const notifications of opened) await notifications.close();
  opened = [];
  await stand.drop();
});

async function open(onFlush: () => Promise<void> = async () => undefined, onRecall = onFlush) {
  const heard: (readonly number[] | "all")[] = [];
  const notifications = await openNotifications({
    url: stand.url,
    logger,
    onUsers: (users) => void heard.push(users),
    onGeneration: () => undefined,
    onFlush,
    onRecall,
  });
  opened.push(notifications);
  return { notifications, heard };
}

test("every server hears which users have changed, and whose quotas", async () => {
  const servers = [await open(), await open()];
  await stand.database("company").insert({ key: "company" });
  const user = { username: "user", company_key: "company", enabled: true, roles: [], timezone: 0 };
  const [{ id }] = (await stand.database("user_account").insert(user).returning("id")) as [{ id: number }];
  const changes = [
    () => stand.database("user_account").where({ id }).update({ enabled: false }),
    () =>
      stand
        .database("quota")
        .insert({ user_id: id, service: "ROUTING", method_group: "PLAN", points_per_request: 10, points_per_day: 10 }),
    () => stand.database("quota").where({ user_id: id }).delete(),
    () => stand.database("user_account").where({ id }).delete(),
  ];
  for (const change of changes) {
    for (const { heard } of servers) heard.length = 0;
    await change();
    for (const { heard } of servers) await expect.poll(() => heard).toEqual([[id]]);
  }
});

test("many changes at once are told as one", async () => {
  const { heard } = await open();
  await stand.database("company").insert({ key: "company" });
  await stand.database.raw(
    "insert into user_account (username, company_key, enabled, roles, timezone) select 'user_' || n, 'company', true, '{}', 0 from generate_series(1, 101) n",
  );
  heard.length = 0;
  await stand.database("user_account").update({ enabled: false });
  await expect.poll(() => heard).toEqual(["all"]);
});

test("after an interruption everything may have changed, and the bus works on", async () => {
  const { notifications, heard } = await open();
  heard.length = 0;
  await stand.database.raw(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tollgate_bus' and datname = current_database()",
  );
  await expect.poll(() => heard).toEqual(["all"]);
  await notifications.barrier();
});

test("a barrier waits until every server has flushed", async () => {
  let free = () => {};
  const held = new Promise<void>((resolve) => (free = resolve));
  let asked = 0;
  await open(() => {
    asked += 1;
    return held;
  });
  const { notifications } = await open();
  let passed = false;
  const barrier = notifications.barrier().then(() => (passed = true));
  await expect.poll(() => asked).toBe(1);
  await stand.database.raw("select 1");
  expect(passed).toBe(false);
  free();
  await barrier;
  expect(logged).toEqual([]);
});

test("a recall waits until every server has come back, and asks none of them to flush", async () => {
  const asked: string[] = [];
  const note = (what: string) => async () => void asked.push(what);
  await open(note("flush"), note("recall"));
  const { notifications } = await open(note("flush"), note("recall"));
  await notifications.recall();
  expect(asked).toEqual(["recall", "recall"]);
  expect(logged).toEqual([]);
});

test("those who ask together share a barrier; who asks later gets another", async () => {
  let flushes = 0;
  const { notifications } = await open(async () => void (flushes += 1));
  await Promise.all(Array.from({ length: 50 }, () => notifications.barrier()));
  expect(flushes).toBe(1);
  await notifications.barrier();
  expect(flushes).toBe(2);
});

test("barriers that are asked for while others run end when all have flushed, and none is given up", async () => {
  await open();
  const { notifications } = await open();
  const barriers: Promise<void>[] = [];
  for (let turn = 0; turn < 40; turn += 1) {
    barriers.push(notifications.barrier());
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(barriers);
  expect(logged).toEqual([]);
});

test("at most four barriers of a server are under way, however many are asked for", async () => {
  const running = { now: 0, most: 0 };
  await open(async () => {
    running.most = Math.max(running.most, (running.now += 1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    running.now -= 1;
  });
  const { notifications } = await open();
  const barriers: Promise<void>[] = [];
  for (let turn = 0; turn < 20; turn += 1) {
    barriers.push(notifications.barrier());
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await Promise.all(barriers);
  expect(running).toEqual({ now: 0, most: 4 });
});

test("a barrier whose connection ends fails at once", async () => {
  let asked = 0;
  await open(() => {
    asked += 1;
    return new Promise<void>(() => undefined);
  });
  const { notifications } = await open();
  const barrier = notifications.barrier().catch((error: unknown) => (error as Error).message);
  await expect.poll(() => asked).toBe(1);
  await stand.database.raw(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tollgate_bus' and datname = current_database()",
  );
  expect(await barrier).toBe("the notification connection is lost");
  expect(logged.map(({ msg }) => msg)).not.toContain("flush request timed out");
});

test("a server knows whether barriers have waited for it", async () => {
  const { notifications } = await open();
  const presence = notifications.presence();
  expect([presence.isHeld(), await presence.confirm()]).toEqual([true, true]);
  await stand.database.raw(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tollgate_bus' and datname = current_database()",
  );
  expect(await presence.confirm()).toBe(false);
  await expect.poll(() => notifications.presence().confirm()).toBe(true);
  expect(presence.isHeld()).toBe(false);
});

test("a server that hangs is not waited for for ever", async () => {
  await open(() => new Promise<void>(() => undefined));
  const { notifications } = await open();
  await notifications.barrier();
  expect(logged.map(({ msg }) => msg)).toEqual(["flush request timed out"]);
});

test("who has caught up has heard of every change before", async () => {
  const { notifications, heard } = await open();
  await stand.database("company").insert({ key: "company" });
  const user = { username: "user", company_key: "company", enabled: true, roles: [], timezone: 0 };
  const [{ id }] = (await stand.database("user_account").insert(user).returning("id")) as [{ id: number }];
  for (let times = 0; times < 50; times += 1) {
    heard.length = 0;
    await stand
      .database("user_account")
      .where({ id })
      .update({ enabled: times % 2 === 0 });
    await notifications.caughtUp();
    expect(heard).toEqual([[id]]);
  }
});

test("a barrier without a connection is UNAVAILABLE to a caller, not a fault of ours", async () => {
  const { notifications } = await open();
  await notifications.close();
  const error: unknown = await notifications.barrier().catch((thrown: unknown) => thrown);
  expect(toDatabaseError(error).code).toBe(Code.Unavailable);
});

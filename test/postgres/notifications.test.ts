import { Code } from "@connectrpc/connect";
import pino from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { toDatabaseError } from "../../src/postgres/errors.ts";
import { type Notifications, openNotifications } from "../../src/postgres/notifications.ts";
import { createOutageLog } from "../../src/shared/outage-log.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let fixture: TestDatabase;
let opened: Notifications[] = [];
const logged: { msg: string }[] = [];
const logger = pino({}, { write: (line: string) => logged.push(JSON.parse(line)) });
beforeEach(async () => {
  fixture = await createTestDatabase();
  logged.length = 0;
});
afterEach(async () => {
  for (const notifications of opened) await notifications.close();
  opened = [];
  await fixture.drop();
});

async function open(onFlush: () => Promise<void> = async () => undefined, onRecall = onFlush) {
  const received: (readonly number[] | "all")[] = [];
  const notifications = await openNotifications({
    url: fixture.url,
    logger,
    outages: createOutageLog(logger, "postgresql"),
    onUsers: (users) => void received.push(users),
    onGeneration: () => undefined,
    onFlush,
    onRecall,
  });
  opened.push(notifications);
  return { notifications, received };
}

test("notifies every server of the users whose account or quotas have changed", async () => {
  const servers = [await open(), await open()];
  await fixture.database("company").insert({ key: "company" });
  const user = { username: "user", company_key: "company", enabled: true, roles: [], timezone: 0 };
  const [{ id }] = (await fixture.database("user_account").insert(user).returning("id")) as [{ id: number }];
  const changes = [
    () => fixture.database("user_account").where({ id }).update({ enabled: false }),
    () =>
      fixture
        .database("quota")
        .insert({ user_id: id, service: "ROUTING", method_group: "PLAN", points_per_request: 10, points_per_day: 10 }),
    () => fixture.database("quota").where({ user_id: id }).delete(),
    () => fixture.database("user_account").where({ id }).delete(),
  ];
  for (const change of changes) {
    for (const { received } of servers) received.length = 0;
    await change();
    for (const { received } of servers) await expect.poll(() => received).toEqual([[id]]);
  }
});

test("combines many changes at once into one notification", async () => {
  const { received } = await open();
  await fixture.database("company").insert({ key: "company" });
  await fixture.database.raw(
    "insert into user_account (username, company_key, enabled, roles, timezone) select 'user_' || n, 'company', true, '{}', 0 from generate_series(1, 101) n",
  );
  received.length = 0;
  await fixture.database("user_account").update({ enabled: false });
  await expect.poll(() => received).toEqual(["all"]);
});

test("reports that everything may have changed after an interruption, and keeps working", async () => {
  const { notifications, received } = await open();
  received.length = 0;
  await fixture.database.raw(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tollgate_notifications' and datname = current_database()",
  );
  await expect.poll(() => received).toEqual(["all"]);
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
  await fixture.database.raw("select 1");
  expect(passed).toBe(false);
  free();
  await barrier;
  expect(logged).toEqual([]);
});

test("a recall waits for every server's reply and requests no flush", async () => {
  const asked: string[] = [];
  const note = (what: string) => async () => void asked.push(what);
  await open(note("flush"), note("recall"));
  const { notifications } = await open(note("flush"), note("recall"));
  await notifications.recall();
  expect(asked).toEqual(["recall", "recall"]);
  expect(logged).toEqual([]);
});

test("concurrent callers share a barrier, and a later caller gets another", async () => {
  let flushes = 0;
  const { notifications } = await open(async () => void (flushes += 1));
  await Promise.all(Array.from({ length: 50 }, () => notifications.barrier()));
  expect(flushes).toBe(1);
  await notifications.barrier();
  expect(flushes).toBe(2);
});

test("barriers requested while others run end when all servers have flushed, and none times out", async () => {
  await open();
  const { notifications } = await open();
  const barriers: Promise<boolean>[] = [];
  for (let turn = 0; turn < 40; turn += 1) {
    barriers.push(notifications.barrier());
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(barriers);
  expect(logged).toEqual([]);
});

test("runs at most four barriers of a server at once", async () => {
  const running = { now: 0, most: 0 };
  await open(async () => {
    running.most = Math.max(running.most, (running.now += 1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    running.now -= 1;
  });
  const { notifications } = await open();
  const barriers: Promise<boolean>[] = [];
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
  await fixture.database.raw(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tollgate_notifications' and datname = current_database()",
  );
  expect(await barrier).toBe("the notification connection is lost");
  expect(logged.map(({ msg }) => msg)).not.toContain("flush request timed out");
});

test("a server knows whether barriers wait for it", async () => {
  const { notifications } = await open();
  const presence = notifications.presence();
  expect([presence.isHeld(), await presence.confirm()]).toEqual([true, true]);
  await fixture.database.raw(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tollgate_notifications' and datname = current_database()",
  );
  expect(await presence.confirm()).toBe(false);
  await expect.poll(() => notifications.presence().confirm()).toBe(true);
  expect(presence.isHeld()).toBe(false);
});

test("a server knows for how long it has missed changes", async () => {
  const { notifications } = await open();
  expect(notifications.unnoticedMs()).toBe(0);
  await notifications.close();
  await expect.poll(() => notifications.unnoticedMs()).toBeGreaterThan(0);
});

test("a barrier times out on a server that hangs", async () => {
  await open(() => new Promise<void>(() => undefined));
  const { notifications } = await open();
  await notifications.barrier();
  expect(logged.map(({ msg }) => msg)).toEqual(["flush request timed out"]);
});

test("catching up delivers every earlier change", async () => {
  const { notifications, received } = await open();
  await fixture.database("company").insert({ key: "company" });
  const user = { username: "user", company_key: "company", enabled: true, roles: [], timezone: 0 };
  const [{ id }] = (await fixture.database("user_account").insert(user).returning("id")) as [{ id: number }];
  for (let times = 0; times < 50; times += 1) {
    received.length = 0;
    await fixture
      .database("user_account")
      .where({ id })
      .update({ enabled: times % 2 === 0 });
    await notifications.caughtUp();
    expect(received).toEqual([[id]]);
  }
});

test("a barrier without a connection fails with UNAVAILABLE", async () => {
  const { notifications } = await open();
  await notifications.close();
  const error: unknown = await notifications.barrier().catch((thrown: unknown) => thrown);
  expect(toDatabaseError(error).code).toBe(Code.Unavailable);
});

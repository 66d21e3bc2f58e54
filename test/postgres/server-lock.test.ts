import pg from "pg";
import pino from "pino";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { holdServerLock } from "../../src/postgres/server-lock.ts";
import { createOutageLog } from "../../src/shared/outage-log.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { addressOf, startProxy } from "../support/proxy.ts";

const outages = createOutageLog(pino({ level: "silent" }), "postgresql");

let fixture: TestDatabase;
const held: { close(): Promise<void> }[] = [];
beforeAll(async () => {
  fixture = await createTestDatabase();
});
afterEach(async () => {
  for (const lock of held.splice(0)) await lock.close();
});
afterAll(() => fixture.drop());

const takeovers: string[] = [];
/** @param waitMs undefined for the time of production */
async function hold(
  serverName: string,
  isShared: boolean,
  { url = fixture.url, waitMs = 200 }: { readonly url?: string; readonly waitMs?: number | undefined } = {},
) {
  const onTakeover = (why: string) => takeovers.push(why);
  const lock = await holdServerLock({ url, serverName, isShared, outages, onTakeover, ...(waitMs && { waitMs }) });
  held.push(lock);
  return lock;
}

test("refuses a second server that counts in its own process, and names the first", async () => {
  await hold("first", false);
  await expect(hold("second", false)).rejects.toThrow(
    /^another server runs on this database: first\. .*set the same REDIS_URL/,
  );
});

test("servers with Redis run together, and refuse one that counts in its own process", async () => {
  await hold("one", true);
  await hold("two", true);
  await expect(hold("three", false)).rejects.toThrow("another server runs on this database: one, two.");
});

test("a server with Redis does not start beside one that counts in its own process", async () => {
  await hold("first", false);
  await expect(hold("second", true)).rejects.toThrow("counts in its own process: first.");
});

/** Connects as a server of release 1.0, which holds no lock. */
async function connectLastRelease(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: fixture.url, application_name: "tollgate_bus" });
  await client.connect();
  return client;
}

test("a server that counts in its own process does not start beside one of release 1.0, and one with Redis does", async () => {
  const client = await connectLastRelease();
  await expect(hold("new", false)).rejects.toThrow("a server of release 1.0 runs on this database.");
  await hold("new", true);
  await client.end();
});

test("a server of release 1.0 cannot roll up audit totals beside a server that runs", async () => {
  const client = await connectLastRelease();
  const tryLock = async () => (await client.query("select pg_try_advisory_lock(7043006) as free")).rows[0].free;
  const { close } = await hold("new", true);
  expect(await tryLock()).toBe(false);
  await close();
  await expect.poll(tryLock).toBe(true);
  await client.end();
});

test("a start waits for a predecessor that ends", async () => {
  const first = await hold("first", false);
  const second = hold("second", false, { waitMs: undefined });
  await first.close();
  await expect(second).resolves.toBeDefined();
});

test("takes a lost lock again, and reports a takeover when another server holds it", async () => {
  const proxy = await startProxy(addressOf(fixture.url));
  await hold("first", false, { url: proxy.url(fixture.url) });
  const holders = async () =>
    (await fixture.database.raw("select pid from pg_locks where locktype = 'advisory' and objid = 7043030")).rows;
  const before = await holders();
  proxy.cut();
  const isTakenAgain = async () => {
    const now = await holders();
    return now.length === 1 && now[0].pid !== before[0].pid;
  };
  await expect.poll(isTakenAgain, { timeout: 10_000 }).toBe(true);

  await proxy.refuse();
  await hold("second", false);
  await proxy.restore();
  await expect.poll(() => takeovers, { timeout: 15_000 }).toEqual([expect.stringContaining(": second.")]);
  await proxy.close();
});

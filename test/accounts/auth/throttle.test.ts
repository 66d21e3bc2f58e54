import { randomUUID } from "node:crypto";
import pino from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { networkOf } from "../../../src/accounts/auth/caller-network.ts";
import { createFailureCounts, type FailureCounts } from "../../../src/accounts/auth/failure-counts.ts";
import { createLoginThrottle, type LoginThrottle } from "../../../src/accounts/auth/throttle.ts";
import type { Database } from "../../../src/postgres/database.ts";
import { openRedis } from "../../../src/redis/client.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { noOwnRedis, noRedis, startRedis, type TestRedis } from "../../support/redis.ts";

const limits = { byNameAndAddress: 3, byAddress: 8, windowMs: 60_000 };

let postgres: TestDatabase;
beforeAll(async () => {
  postgres = await createTestDatabase();
});
afterAll(() => postgres.drop());

function createThrottle(stores: Parameters<typeof createFailureCounts>[0], now = Date.now): LoginThrottle {
  return createLoginThrottle(createFailureCounts(stores, now), limits, now);
}

/** Reports failures at once, and returns how many were counted rather than locked out. */
async function through(throttle: LoginThrottle, tries: number, name: (index: number) => string, address: string) {
  const outcomes = await Promise.allSettled(
    Array.from({ length: tries }, (_, index) => throttle.fail(name(index), address)),
  );
  return outcomes.filter(({ status }) => status === "fulfilled").length;
}

async function conforms(throttle: LoginThrottle): Promise<void> {
  // A Redis given by REDIS_URL may hold counts of an earlier run.
  const place = randomUUID();
  expect(await through(throttle, 2, () => "anna", `${place}.1`)).toBe(2);
  expect(throttle.refusalOf("anna", `${place}.1`)).toBeUndefined();
  await throttle.succeed("anna", `${place}.1`);
  expect(await through(throttle, 5, () => "anna", `${place}.1`)).toBe(3);
  expect(throttle.refusalOf("anna", `${place}.1`)?.message).toContain("too many failed logins");
  await expect(throttle.succeed("anna", `${place}.1`)).rejects.toThrow("too many failed logins");
  expect(await through(throttle, 5, () => "anna", `${place}.2`)).toBe(3);
  expect(await through(throttle, 20, (index) => `name_${index}`, `${place}.3`)).toBe(8);
  await expect(throttle.succeed("peter", `${place}.3`)).rejects.toThrow("too many failed logins");
  expect(throttle.refusalOf("peter", `${place}.3`)).toBeDefined();
  await Promise.all(Array.from({ length: 20 }, () => throttle.succeed("anna", `${place}.4`)));
}

test.each([
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:db8:1:2::9", "2001:db8:1:2::/64"],
  ["2001:0DB8:1:2::", "2001:db8:1:2::/64"],
  ["2001:db8::9", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
  ["", ""],
])("%s is counted as %s", (address, network) => {
  expect(networkOf(address)).toBe(network);
});

test("counts all addresses of an IPv6 network as one", async () => {
  const throttle = createThrottle({ database: postgres.database, redis: undefined });
  const failures = Array.from({ length: 5 }, (_, index) => throttle.fail("peter", `2001:db8::${index + 1}`));
  const outcomes = await Promise.allSettled(failures);
  expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBe(3);
});

test("counts in PostgreSQL", async () => {
  await conforms(createThrottle({ database: postgres.database, redis: undefined }));
  expect(Number((await postgres.database("login_attempt").count({ rows: "*" }))[0]?.rows)).toBeGreaterThan(3);
});

/** Records the calls of the counts. */
function watched(counts: FailureCounts): FailureCounts & { readonly calls: string[] } {
  const calls: string[] = [];
  const watch =
    <Given extends unknown[], Result>(name: string, work: (...given: Given) => Result) =>
    (...given: Given) => {
      calls.push(name);
      return work(...given);
    };
  const { add, read, forget } = counts;
  return { add: watch("add", add), read: watch("read", read), forget: watch("forget", forget), calls };
}

test("writes once for a failure, never for a success without failures, and reads nothing for a known limit", async () => {
  const counts = watched(createFailureCounts({ database: postgres.database, redis: undefined }, Date.now));
  const throttle = createLoginThrottle(counts, limits, Date.now);
  await throttle.succeed("anna", "192.0.2.9");
  expect(counts.calls).toEqual(["read"]);
  await throttle.fail("anna", "192.0.2.9");
  await throttle.succeed("anna", "192.0.2.9");
  expect(counts.calls).toEqual(["read", "add", "read", "forget"]);
  await through(throttle, 4, () => "anna", "192.0.2.9");
  counts.calls.length = 0;
  for (let round = 0; round < 100; round += 1) expect(throttle.refusalOf("anna", "192.0.2.9")).toBeDefined();
  expect(counts.calls).toEqual([]);
});

test("a lockout whose count was deleted ends within 30 seconds", async () => {
  let ms = 6_000_000_000_000;
  const throttle = createThrottle({ database: postgres.database, redis: undefined }, () => ms);
  await through(throttle, 3, () => "anna", "192.0.2.3");
  await postgres.database("login_attempt").where("key", "like", "%192.0.2.3%").delete();
  ms += 29_999;
  expect(throttle.refusalOf("anna", "192.0.2.3")).toBeDefined();
  ms += 1;
  expect(throttle.refusalOf("anna", "192.0.2.3")).toBeUndefined();
  await throttle.succeed("anna", "192.0.2.3");
});

test("forgets failures when their window ends, and deletes their rows", async () => {
  let ms = 5_000_000_000_000;
  const throttle = createThrottle({ database: postgres.database, redis: undefined }, () => ms);
  expect(await through(throttle, 5, () => "anna", "192.0.2.1")).toBe(3);
  ms += limits.windowMs;
  expect(throttle.refusalOf("anna", "192.0.2.1")).toBeUndefined();
  expect(await through(throttle, 5, () => "anna", "192.0.2.1")).toBe(3);
  ms += limits.windowMs;
  await throttle.fail("peter", "192.0.2.2");
  const rows = await postgres.database("login_attempt").where("key", "like", "%192.0.2.1%");
  expect(rows).toEqual([]);
});

/** Runs the work with the throttles of two servers that share one Redis and one PostgreSQL. */
async function withTwoServers(
  work: (first: LoginThrottle, second: LoginThrottle, redis: TestRedis, database: Database) => Promise<void>,
): Promise<void> {
  const server = await startRedis();
  const connect = () => openRedis(server.url, pino({ level: "silent" }));
  const [first, second] = [connect(), connect()];
  await Promise.all([first, second].map((redis) => new Promise((ready) => redis.once("ready", ready))));
  const { database, drop } = await createTestDatabase();
  try {
    const [firstThrottle, secondThrottle] = [first, second].map((redis) => createThrottle({ database, redis }));
    await work(firstThrottle as LoginThrottle, secondThrottle as LoginThrottle, server, database);
  } finally {
    for (const redis of [first, second]) redis.disconnect();
    await server.kill();
    await drop();
  }
}

test.skipIf(noRedis !== "")(`counts in Redis, for all servers together ${noRedis}`, () =>
  withTwoServers(async (first, second, _server, database) => {
    await conforms(first);
    const address = randomUUID();
    expect(await through(first, 2, () => "anna", address)).toBe(2);
    expect(await through(second, 5, () => "anna", address)).toBe(1);
    expect(await database("login_attempt").count({ rows: "*" })).toEqual([{ rows: 0 }]);
  }),
);

test.skipIf(noOwnRedis !== "")(`counts in PostgreSQL while Redis is gone ${noOwnRedis}`, () =>
  withTwoServers(async (first, second, server) => {
    await server.kill();
    await conforms(first);
    const address = randomUUID();
    expect(await through(first, 2, () => "anna", address)).toBe(2);
    expect(await through(second, 5, () => "anna", address)).toBe(1);
  }),
);

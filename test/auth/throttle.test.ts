import { randomUUID } from "node:crypto";
import pino from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createLoginThrottle, type LoginThrottle, networkOf } from "../../src/auth/throttle.ts";
import { openRedis } from "../../src/redis/client.ts";
import type { Database } from "../../src/storage/database.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { noOwnRedis, noRedis, startRedis, type TestRedis } from "../support/redis.ts";

const limits = { byNameAndAddress: 3, byAddress: 8, windowSeconds: 60 };

let postgres: TestDatabase;
beforeAll(async () => {
  postgres = await createTestDatabase();
});
afterAll(() => postgres.drop());

/** How many of so many tries at once get through. */
async function through(throttle: LoginThrottle, tries: number, name: (index: number) => string, address: string) {
  const outcomes = await Promise.allSettled(
    Array.from({ length: tries }, (_, index) => throttle.enter(name(index), address)),
  );
  return outcomes.filter(({ status }) => status === "fulfilled").length;
}

async function conforms(throttle: LoginThrottle): Promise<void> {
  // A Redis of somebody else may remember an earlier run.
  const place = randomUUID();
  expect(await through(throttle, 5, () => "anna", `${place}.1`)).toBe(3);
  expect(await through(throttle, 5, () => "anna", `${place}.2`)).toBe(3);
  expect(await through(throttle, 20, (index) => `name_${index}`, `${place}.3`)).toBe(8);
  await throttle.succeed("anna", `${place}.1`);
  expect(await through(throttle, 5, () => "anna", `${place}.1`)).toBe(3);
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

test("a network of IPv6 is one caller, however many addresses it has", async () => {
  const throttle = createLoginThrottle({ database: postgres.database, redis: undefined }, limits);
  const entered = Array.from({ length: 5 }, (_, index) => throttle.enter("peter", `2001:db8::${index + 1}`));
  const outcomes = await Promise.allSettled(entered);
  expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBe(3);
});

test("counts in PostgreSQL", async () => {
  await conforms(createLoginThrottle({ database: postgres.database, redis: undefined }, limits));
  expect(Number((await postgres.database("login_attempt").count({ rows: "*" }))[0]?.rows)).toBeGreaterThan(3);
});

/** Two servers that share one Redis and one PostgreSQL. */
async function withTwoServers(
  work: (one: LoginThrottle, two: LoginThrottle, redis: TestRedis, database: Database) => Promise<void>,
): Promise<void> {
  const server = await startRedis();
  const connect = () => openRedis(server.url, pino({ level: "silent" }));
  const [first, second] = [connect(), connect()];
  await Promise.all([first, second].map((redis) => new Promise((ready) => redis.once("ready", ready))));
  const { database, drop } = await createTestDatabase();
  try {
    const [one, two] = [first, second].map((redis) => createLoginThrottle({ database, redis }, limits));
    await work(one as LoginThrottle, two as LoginThrottle, server, database);
  } finally {
    for (const redis of [first, second]) redis.disconnect();
    await server.kill();
    await drop();
  }
}

test.skipIf(noRedis !== "")(`counts in Redis, for all servers together ${noRedis}`, () =>
  withTwoServers(async (one, two, _server, database) => {
    await conforms(one);
    const address = randomUUID();
    expect(await through(one, 2, () => "anna", address)).toBe(2);
    expect(await through(two, 5, () => "anna", address)).toBe(1);
    expect(await database("login_attempt").count({ rows: "*" })).toEqual([{ rows: 0 }]);
  }),
);

test.skipIf(noOwnRedis !== "")(`counts in PostgreSQL while Redis is gone ${noOwnRedis}`, () =>
  withTwoServers(async (one, two, server) => {
    await server.kill();
    await conforms(one);
    const address = randomUUID();
    expect(await through(one, 2, () => "anna", address)).toBe(2);
    expect(await through(two, 5, () => "anna", address)).toBe(1);
  }),
);

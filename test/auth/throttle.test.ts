import pino from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createLoginThrottle, type LoginThrottle } from "../../src/auth/throttle.ts";
import { openRedis } from "../../src/redis/client.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { noRedis, startRedis } from "../support/redis.ts";

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
  expect(await through(throttle, 5, () => "anna", "10.0.0.1")).toBe(3);
  expect(await through(throttle, 5, () => "anna", "10.0.0.2")).toBe(3);
  expect(await through(throttle, 20, (index) => `name_${index}`, "10.0.0.3")).toBe(8);
  await throttle.succeed("anna", "10.0.0.1");
  expect(await through(throttle, 5, () => "anna", "10.0.0.1")).toBe(3);
}

test("counts in PostgreSQL", async () => {
  await conforms(createLoginThrottle({ database: postgres.database, redis: undefined }, limits));
});

describe.skipIf(noRedis !== undefined)(`with Redis${noRedis === undefined ? "" : ` (${noRedis})`}`, () => {
  test("counts in Redis, for all servers together, and in PostgreSQL when Redis is gone", async () => {
    const server = await startRedis();
    const clients = [
      openRedis(server.url, pino({ level: "silent" })),
      openRedis(server.url, pino({ level: "silent" })),
    ];
    await Promise.all(clients.map((redis) => new Promise((ready) => redis.once("ready", ready))));
    const other = await createTestDatabase();
    const [one, two] = clients.map((redis) => createLoginThrottle({ database: other.database, redis }, limits));
    try {
      await conforms(one as LoginThrottle);
      expect(await through(two as LoginThrottle, 5, () => "anna", "10.0.0.1")).toBe(0);
      expect(await other.database("login_attempt").count({ rows: "*" })).toEqual([{ rows: 0 }]);
      await server.kill();
      await conforms(one as LoginThrottle);
      expect(await through(two as LoginThrottle, 5, () => "anna", "10.0.0.1")).toBe(0);
    } finally {
      for (const redis of clients) redis.disconnect();
      await other.drop();
    }
  });
});

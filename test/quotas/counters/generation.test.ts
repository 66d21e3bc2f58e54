import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import pino from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { guardGeneration, type SharedEngine } from "../../../src/quotas/counters/generation.ts";
import { createRedisEngine } from "../../../src/quotas/counters/redis.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";
import { emptySnapshot, newMeter, remember } from "./conformance.ts";

const rules = { timezone: 0, quotas: [{}] };

describe.skipIf(noOwnRedis !== "")("the generation of counters in Redis", () => {
  let server: TestRedis;
  let testDatabase: TestDatabase;
  const open: Redis[] = [];
  beforeEach(async () => {
    [server, testDatabase] = await Promise.all([startRedis(), createTestDatabase()]);
  });
  afterEach(async () => {
    for (const redis of open.splice(0)) redis.disconnect();
    await Promise.all([server.kill(), testDatabase.drop()]);
  });

  function openServer(database = testDatabase.database): SharedEngine {
    const redis = new Redis(server.url);
    redis.on("error", () => undefined);
    open.push(redis);
    const logger = pino({ level: "silent" });
    return guardGeneration({ redis, engine: createRedisEngine(redis, { remember }), database, logger });
  }

  const generation = async () => (await testDatabase.database("counter_store").first("generation"))?.generation;
  const usage = { meter: newMeter(), rules, command: { kind: "usage" as const } };

  async function prime(engine: SharedEngine): Promise<void> {
    const [missing] = await engine.run([usage]);
    if (missing?.kind !== "missing") throw new Error("the counters are present already");
    await engine.prime(usage.meter, missing.token, emptySnapshot(missing, rules, {}));
  }

  test("is the same for servers of the same Redis, and rises when Redis restarts", async () => {
    const [first, second] = [openServer(), openServer()];
    await prime(first);
    expect((await second.run([usage]))[0]?.kind).toBe("done");
    expect(await generation()).toBe(1);
    await server.restart();
    await expect
      .poll(() =>
        first.run([usage]).then(
          ([reply]) => reply?.kind,
          () => "unreachable",
        ),
      )
      .toBe("missing");
    await second.run([usage]);
    expect(await generation()).toBe(2);
  });

  test("is read from Redis by a server that has an earlier one, even when PostgreSQL was restored from a backup", async () => {
    const [first, second] = [openServer(), openServer()];
    await prime(first);
    await second.run([usage]);
    await first.raiseGeneration(1);
    await prime(first);
    expect(await second.run([usage])).toEqual([{ kind: "stale", generation: 2 }]);
    expect((await second.run([usage]))[0]?.kind).toBe("done");

    await testDatabase.database("counter_store").update({ generation: 1 });
    const third = openServer();
    expect((await third.run([usage]))[0]?.kind).toBe("stale");
    expect((await third.run([usage]))[0]?.kind).toBe("done");
    expect(await generation()).toBe(2);
  });

  test("rises once when several servers raise the same generation", async () => {
    const [first, second] = [openServer(), openServer()];
    await prime(first);
    await second.run([usage]);
    const seen = await Promise.all([first.readGeneration(), second.readGeneration()]);
    expect(seen).toEqual([1, 1]);
    await Promise.all([first.raiseGeneration(1), second.raiseGeneration(1)]);
    await first.raiseGeneration(1);
    expect(await generation()).toBe(2);
    await first.raiseGeneration(2);
    expect(await generation()).toBe(3);
  });

  test("does not count when it belongs to another database: a copy, or a new one", async () => {
    await prime(openServer());
    const copy = await createTestDatabase();
    await copy.database("counter_store").insert(await testDatabase.database("counter_store").first());
    expect((await openServer(copy.database).run([usage]))[0]?.kind).toBe("missing");
    // A new database has a new random identity, and starts at the same generation.
    await testDatabase.database("counter_store").update({ identity: randomUUID() });
    expect((await openServer().run([usage]))[0]?.kind).toBe("missing");
    expect(await generation()).toBe(1);
    for (const redis of open.splice(0)) redis.disconnect();
    await copy.drop();
  });

  test("drainReplies waits until all replies of Redis are handled", async () => {
    const engine = openServer();
    await prime(engine);
    const order: string[] = [];
    server.pause();
    const running = engine.run([usage]).then(() => order.push("handled"));
    // The request has left for Redis.
    await new Promise((resolve) => setImmediate(resolve));
    const draining = engine.drainReplies().then(() => order.push("drained"));
    server.resume();
    await Promise.all([running, draining]);
    expect(order).toEqual(["handled", "drained"]);
  });
});

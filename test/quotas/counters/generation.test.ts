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
  let stand: TestDatabase;
  const open: Redis[] = [];
  beforeEach(async () => {
    [server, stand] = await Promise.all([startRedis(), createTestDatabase()]);
  });
  afterEach(async () => {
    for (const redis of open.splice(0)) redis.disconnect();
    await Promise.all([server.kill(), stand.drop()]);
  });

  function openServer(database = stand.database): SharedEngine {
    const redis = new Redis(server.url);
    redis.on("error", () => undefined);
    open.push(redis);
    const logger = pino({ level: "silent" });
    return guardGeneration({ redis, engine: createRedisEngine(redis, { remember }), database, logger });
  }

  const generation = async () => (await stand.database("counter_store").first("generation"))?.generation;
  const usage = { meter: newMeter(), rules, command: { kind: "usage" as const } };

  async function primed(engine: SharedEngine): Promise<void> {
    const [missing] = await engine.run([usage]);
    if (missing?.kind !== "missing") throw new Error("it is there already");
    await engine.prime(usage.meter, missing.token, emptySnapshot(missing, rules, {}));
  }

  test("is the same for servers of the same Redis, and rises when Redis restarts", async () => {
    const [one, other] = [openServer(), openServer()];
    await primed(one);
    expect((await other.run([usage]))[0]?.kind).toBe("done");
    expect(await generation()).toBe(1);
    await server.restart();
    await expect
      .poll(() =>
        one.run([usage]).then(
          ([reply]) => reply?.kind,
          () => "away",
        ),
      )
      .toBe("missing");
    await other.run([usage]);
    expect(await generation()).toBe(2);
  });

  test("is read from Redis by a server with an earlier one, also after PostgreSQL was restored", async () => {
    const [one, other] = [openServer(), openServer()];
    await primed(one);
    await other.run([usage]);
    await one.raiseGeneration(1);
    await primed(one);
    expect(await other.run([usage])).toEqual([{ kind: "stale", generation: 2 }]);
    expect((await other.run([usage]))[0]?.kind).toBe("done");

    await stand.database("counter_store").update({ generation: 1 });
    const third = openServer();
    expect((await third.run([usage]))[0]?.kind).toBe("stale");
    expect((await third.run([usage]))[0]?.kind).toBe("done");
    expect(await generation()).toBe(2);
  });

  test("rises once when several servers end the same generation", async () => {
    const [one, other] = [openServer(), openServer()];
    await primed(one);
    await other.run([usage]);
    const seen = await Promise.all([one.readGeneration(), other.readGeneration()]);
    expect(seen).toEqual([1, 1]);
    await Promise.all([one.raiseGeneration(1), other.raiseGeneration(1)]);
    await one.raiseGeneration(1);
    expect(await generation()).toBe(2);
    await one.raiseGeneration(2);
    expect(await generation()).toBe(3);
  });

  test("of another database does not count: neither a copy's nor that of a fresh one", async () => {
    await primed(openServer());
    const copy = await createTestDatabase();
    await copy.database("counter_store").insert(await stand.database("counter_store").first());
    expect((await openServer(copy.database).run([usage]))[0]?.kind).toBe("missing");
    // A fresh one draws an identity, and begins with the same generation.
    await stand.database("counter_store").update({ identity: randomUUID() });
    expect((await openServer().run([usage]))[0]?.kind).toBe("missing");
    expect(await generation()).toBe(1);
    for (const redis of open.splice(0)) redis.disconnect();
    await copy.drop();
  });

  test("drainReplies waits until all replies of Redis were handled", async () => {
    const engine = openServer();
    await primed(engine);
    const order: string[] = [];
    server.pause();
    const asking = engine.run([usage]).then(() => order.push("acted"));
    // It is on its way.
    await new Promise((resolve) => setImmediate(resolve));
    const waiting = engine.drainReplies().then(() => order.push("answered"));
    server.resume();
    await Promise.all([asking, waiting]);
    expect(order).toEqual(["acted", "answered"]);
  });
});

import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CounterEngine } from "../../../src/quota/counters/engine.ts";
import { keysOf } from "../../../src/quota/counters/keys.ts";
import { createRedisEngine } from "../../../src/quota/counters/redis.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";
import { conforms, emptySnapshot, newMeter } from "./conformance.ts";

describe.skipIf(noOwnRedis !== "")("the engine on Redis", () => {
  let server: TestRedis;
  let redis: Redis;
  let engine: CounterEngine;
  let nowMs = 0;
  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
    engine = createRedisEngine(redis, { now: () => nowMs });
  });
  afterAll(async () => {
    redis.disconnect();
    await server.kill();
  });
  conforms(() => ({
    engine,
    setTime: (time) => {
      nowMs = time;
    },
  }));

  const rules = { timezone: 0, quotas: [{}] };
  const usage = (meter = newMeter()) => ({ meter, rules, command: { kind: "usage" as const } });

  async function primed() {
    const ask = usage();
    const [missing] = await engine.run([ask]);
    if (missing?.kind !== "missing") throw new Error("it is there already");
    await engine.prime(ask.meter, emptySnapshot(missing, rules, {}));
    return ask;
  }

  test("goes on when Redis has forgotten the script, also in the middle of a batch", async () => {
    const asks = await Promise.all([primed(), primed(), primed()]);
    await redis.script("FLUSH");
    expect((await engine.run(asks)).map(({ kind }) => kind)).toEqual(["done", "done", "done"]);
    await redis.script("FLUSH");
    expect((await engine.run(asks.slice(1, 2)))[0]?.kind).toBe("done");
  });

  test.each([0, 1])("notices that one of its two keys is gone: %i", async (which) => {
    const ask = await primed();
    await redis.del(keysOf(ask.meter)[which] ?? "");
    expect((await engine.run([ask]))[0]?.kind).toBe("missing");
  });

  test("goes by Redis' own clock", async () => {
    const own = createRedisEngine(redis);
    own.setGeneration(1);
    const ask = usage();
    const [missing] = await own.run([ask]);
    if (missing?.kind !== "missing") throw new Error("it is there already");
    await own.prime(ask.meter, emptySnapshot(missing, rules, {}));
    const before = Date.now();
    const [reply] = await own.run([ask]);
    const time = reply?.kind === "done" ? reply.standing.nowMs : 0;
    expect(time).toBeGreaterThanOrEqual(before - 1);
    expect(time).toBeLessThanOrEqual(Date.now() + 1);
  });

  test("leaves nothing behind of a meter that nobody uses", async () => {
    nowMs = Date.now();
    const ask = await primed();
    await engine.run([ask]);
    const times = await Promise.all(keysOf(ask.meter).map((key) => redis.pexpiretime(key)));
    expect(times).toEqual([nowMs + 172_800_000, nowMs + 172_800_000]);
  });
});

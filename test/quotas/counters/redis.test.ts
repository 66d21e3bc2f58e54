import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CounterEngine, Missing } from "../../../src/quotas/counters/engine.ts";
import { keysOf } from "../../../src/quotas/counters/keys.ts";
import { createRedisEngine } from "../../../src/quotas/counters/redis.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";
import { conforms, emptySnapshot, newMeter, remember } from "./conformance.ts";

describe.skipIf(noOwnRedis !== "")("the engine on Redis", () => {
  let server: TestRedis;
  let redis: Redis;
  let engine: CounterEngine;
  let nowMs = 0;
  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
    engine = createRedisEngine(redis, { now: () => nowMs, remember });
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
    await engine.prime(ask.meter, missing.token, emptySnapshot(missing, rules, {}));
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
    await redis.del(keysOf(ask.meter, "")[which] ?? "");
    expect((await engine.run([ask]))[0]?.kind).toBe("missing");
  });

  test("goes by Redis' own clock", async () => {
    const own = createRedisEngine(redis, { remember });
    own.setGeneration(1);
    const ask = usage();
    const [missing] = await own.run([ask]);
    if (missing?.kind !== "missing") throw new Error("it is there already");
    await own.prime(ask.meter, missing.token, emptySnapshot(missing, rules, {}));
    const before = Date.now();
    const [reply] = await own.run([ask]);
    const time = reply?.kind === "done" ? reply.meterState.nowMs : 0;
    expect(time).toBeGreaterThanOrEqual(before - 1);
    expect(time).toBeLessThanOrEqual(Date.now() + 1);
  });

  describe("two servers of different generations", () => {
    const newer = () => createRedisEngine(redis, { now: () => nowMs, remember });
    const take = (points: number) => ({
      kind: "acquire" as const,
      operationId: randomUUID(),
      points,
      ttlMs: 1000,
      holder: "",
    });

    test("nothing is granted under the old one once the new one is being primed", async () => {
      engine.setGeneration(4);
      const ask = await primed();
      const later = newer();
      later.setGeneration(5);
      const [missing] = await later.run([ask]);
      expect(missing?.kind).toBe("missing");
      // What it would be granted now, the snapshot that the other one is reading might not have.
      expect(await engine.run([{ ...ask, command: take(1) }])).toEqual([{ kind: "stale", generation: 5 }]);
      await engine.prime(
        ask.meter,
        (missing as Missing).token,
        emptySnapshot(missing as Missing, rules, { dayUsed: 4 }),
      );
      await later.prime(
        ask.meter,
        (missing as Missing).token,
        emptySnapshot(missing as Missing, rules, { dayUsed: 5 }),
      );
      expect(await engine.run([ask])).toEqual([{ kind: "stale", generation: 5 }]);
      expect(await later.run([ask])).toMatchObject([{ kind: "done", meterState: { dayUsed: 5 } }]);
      engine.setGeneration(5);
      expect(await engine.run([ask])).toMatchObject([{ kind: "done", meterState: { dayUsed: 5 } }]);
    });

    test("also where there was nothing yet", async () => {
      engine.setGeneration(6);
      const ask = usage();
      const [missing] = await engine.run([ask]);
      const later = newer();
      later.setGeneration(7);
      await later.run([ask]);
      await engine.prime(ask.meter, (missing as Missing).token, emptySnapshot(missing as Missing, rules, {}));
      expect(await engine.run([ask])).toEqual([{ kind: "stale", generation: 7 }]);
      expect((await later.run([ask]))[0]?.kind).toBe("missing");
    });
  });

  test("leaves nothing behind of a snapshot that came too late", async () => {
    const ask = await primed();
    const keys = await redis.keys(`${keysOf(ask.meter, "")[0].replace(/:state$/, "")}*`);
    const [missing] = await engine.run([usage()]);
    const lease = {
      operationId: randomUUID(),
      day: 0,
      timezone: 0,
      points: 1,
      state: "active" as const,
      grantedMs: nowMs,
      expireMs: nowMs + 1000,
      settledPoints: undefined,
      holder: "",
    };
    await engine.prime(
      ask.meter,
      (missing as Missing).token,
      emptySnapshot(missing as Missing, rules, { leases: [lease] }),
    );
    expect(await redis.keys(`${keysOf(ask.meter, "")[0].replace(/:state$/, "")}*`)).toEqual(keys);
  });

  test("removes the keys of an unused meter", async () => {
    nowMs = Date.now();
    const idleMs = 172_800_000;
    const ask = await primed();
    await engine.run([ask]);
    for (const key of keysOf(ask.meter, "")) {
      const left = await redis.pttl(key);
      expect(left).toBeGreaterThan(idleMs - 60_000);
      expect(left).toBeLessThanOrEqual(idleMs);
    }
  });
});

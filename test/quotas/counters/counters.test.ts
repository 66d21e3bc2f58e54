import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Counters, createCounters } from "../../../src/quotas/counters/counters.ts";
import type { CounterEngine, Meter } from "../../../src/quotas/counters/engine.ts";
import { createMemoryEngine } from "../../../src/quotas/counters/memory.ts";
import { createRedisEngine } from "../../../src/quotas/counters/redis.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";
import { emptySnapshot, newMeter, remember } from "./conformance.ts";

const rules = { timezone: 0, quotas: [{ pointsPerDay: 100 }] };

describe.skipIf(noOwnRedis !== "").each(["in this process", "in Redis"])("missing counters %s", (name) => {
  let server: TestRedis;
  let redis: Redis;
  let engine: CounterEngine;
  let counters: Counters;
  let meter: Meter;
  /** The number of reads of the ledger. */
  let reads: number;
  let readGate: Promise<void> | undefined;
  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
  });
  afterAll(async () => {
    redis.disconnect();
    await server.kill();
  });
  beforeEach(() => {
    engine =
      name === "in Redis" ? createRedisEngine(redis, { remember }) : createMemoryEngine({ now: Date.now, remember });
    engine.setGeneration(1);
    meter = newMeter();
    reads = 0;
    readGate = undefined;
    counters = createCounters({
      engine,
      async readSnapshot(_meter, missing, given) {
        reads += 1;
        await readGate;
        return emptySnapshot(missing, given, { dayUsed: 40, windowUsed: 40 });
      },
      findLease: () => Promise.resolve(undefined),
    });
  });

  const acquire = (points: number, of = meter) => ({
    meter: of,
    rules,
    command: { kind: "acquire" as const, operationId: randomUUID(), points, ttlMs: 60_000, holder: "code service" },
  });

  test("are read once when 100 callers miss them at the same time, and each caller gets one decision", async () => {
    const answers = await Promise.all(Array.from({ length: 100 }, () => counters.execute([acquire(1)])));
    const kinds = answers.map(([answer]) => answer?.kind);
    expect(reads).toBe(1);
    expect([kinds.filter((kind) => kind === "done").length, kinds.filter((kind) => kind === "refused").length]).toEqual(
      [60, 40],
    );
  });

  test("are read four at a time, however many are missing", async () => {
    const running = { now: 0, most: 0, flushes: 0 };
    const counted = createCounters({
      engine,
      flush: async () => void (running.flushes += 1),
      async readSnapshot(_meter, missing, given) {
        running.now += 1;
        running.most = Math.max(running.most, running.now);
        await new Promise((resolve) => setImmediate(resolve));
        running.now -= 1;
        return emptySnapshot(missing, given, {});
      },
      findLease: () => Promise.resolve(undefined),
    });
    const answers = await Promise.all(Array.from({ length: 50 }, () => counted.execute([acquire(1, newMeter())])));
    expect(answers.every(([answer]) => answer?.kind === "done")).toBe(true);
    expect(running).toEqual({ now: 0, most: 4, flushes: 50 });
  });

  test("do not delay the answers of requests whose counters are present", async () => {
    const missingMeter = newMeter();
    await counters.execute([acquire(1)]);
    let release: () => void = () => undefined;
    readGate = new Promise((resolve) => {
      release = resolve;
    });
    const answered: number[] = [];
    const executing = counters.execute([acquire(1, missingMeter), acquire(1)], (_answer, index) =>
      answered.push(index),
    );
    await expect.poll(() => answered).toEqual([1]);
    release();
    expect((await executing).map(({ kind }) => kind)).toEqual(["done", "done"]);
    expect(answered).toEqual([1, 0]);
  });

  test("restore a lease again when they are lost between the restore and the settlement", async () => {
    const operationId = randomUUID();
    const day = Math.floor(Date.now() / 86_400_000) - 3;
    const grantedMs = day * 86_400_000;
    let losses = 0;
    const lossy = createCounters({
      engine: {
        ...engine,
        async restore(...parameters) {
          await engine.restore(...parameters);
          if ((losses += 1) > 1) return;
          await engine.forget(meter);
          await counters.execute([acquire(1)]);
        },
      },
      readSnapshot: (_meter, missing, given) => Promise.resolve(emptySnapshot(missing, given, {})),
      findLease: async () => ({
        operationId,
        day,
        timezone: 0,
        points: 5,
        grantedMs,
        expireMs: grantedMs + 1000,
        holder: "code service",
        state: "active",
        settledPoints: undefined,
      }),
    });
    const command = { kind: "settle" as const, operationId, day, points: 5 };
    const [answer] = await lossy.execute([{ meter, rules, command }]);
    expect([answer?.kind, losses]).toEqual(["done", 2]);
  });

  test("fail with UNAVAILABLE when every attempt finds them missing", async () => {
    const forgetful = createCounters({
      engine: { ...engine, prime: () => Promise.resolve() },
      readSnapshot: (_meter, missing, given) => Promise.resolve(emptySnapshot(missing, given, {})),
      findLease: () => Promise.resolve(undefined),
    });
    const error: unknown = await forgetful.execute([acquire(1)]).catch((thrown: unknown) => thrown);
    expect((error as ConnectError).code).toBe(Code.Unavailable);
  });
});

describe.skipIf(noOwnRedis !== "")("a connection to Redis that is lost", () => {
  test.each(["before a prime", "before a restore"])(
    "%s fails the call with UNAVAILABLE and RetryInfo",
    async (moment) => {
      const server = await startRedis();
      const redis = new Redis(server.url, { maxRetriesPerRequest: 0, enableOfflineQueue: false, lazyConnect: true });
      redis.on("error", () => undefined);
      await redis.connect();
      const engine = createRedisEngine(redis, { remember });
      engine.setGeneration(1);
      const meter = newMeter();
      const counters = createCounters({
        engine,
        async readSnapshot(_meter, missing, given) {
          if (moment === "before a prime") redis.disconnect();
          return emptySnapshot(missing, given, {});
        },
        async findLease(_meter, operationId, day) {
          redis.disconnect();
          const times = { grantedMs: Date.now(), expireMs: Date.now() + 60_000 };
          return {
            operationId,
            day,
            timezone: 0,
            points: 1,
            state: "active",
            ...times,
            settledPoints: undefined,
            holder: "a b",
          };
        },
      });
      const granted = { operationId: randomUUID(), day: Math.floor(Date.now() / 86_400_000) };
      const error: unknown = await counters
        .execute([{ meter, rules, command: { kind: "renew", ttlMs: 60_000, ...granted } }])
        .catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ConnectError);
      const { code, details } = error as ConnectError;
      // ErrorInfo and RetryInfo.
      expect([code, details.length]).toEqual([Code.Unavailable, 2]);
      await server.kill();
    },
  );
});

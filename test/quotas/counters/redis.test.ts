import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { CounterEngine, CounterRequest, Meter, Missing, Reply } from "../../../src/quotas/counters/engine.ts";
import { keysOf } from "../../../src/quotas/counters/keys.ts";
import { createRedisEngine } from "../../../src/quotas/counters/redis.ts";
import { createRoundTrips } from "../../../src/shared/measures.ts";
import { freePort } from "../../support/port.ts";
import { addressOf, type Proxy, startProxy } from "../../support/proxy.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";
import { emptySnapshot, newMeter, remember, testConformance } from "./conformance.ts";

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
  testConformance(() => ({
    engine,
    setTime: (time) => {
      nowMs = time;
    },
  }));

  const rules = { timezone: 0, quotas: [{}] };
  const usage = (meter = newMeter()) => ({ meter, rules, command: { kind: "usage" as const } });

  async function primedUsage() {
    const request = usage();
    const [missing] = await engine.run([request]);
    if (missing?.kind !== "missing") throw new Error("the counters are present already");
    await engine.prime(request.meter, missing.token, emptySnapshot(missing, rules, {}));
    return request;
  }

  test("loads the script again after SCRIPT FLUSH, in a batch and for a single request", async () => {
    const requests = await Promise.all([primedUsage(), primedUsage(), primedUsage()]);
    await redis.script("FLUSH");
    expect((await engine.run(requests)).map(({ kind }) => kind)).toEqual(["done", "done", "done"]);
    await redis.script("FLUSH");
    expect((await engine.run(requests.slice(1, 2)))[0]?.kind).toBe("done");
  });

  describe("the requests of one turn of the event loop", () => {
    afterEach(() => {
      vi.restoreAllMocks();
    });

    const kindsOf = (replies: readonly (readonly Reply[])[]) => replies.flat().map(({ kind }) => kind);

    test("leave in one write, and the script runs once for a hundred of them", async () => {
      const requests = await Promise.all(Array.from({ length: 5 }, primedUsage));
      const many = Array.from({ length: 150 }, (_none, index) => requests[index % 5] as CounterRequest);
      const scriptsRun = () => /cmdstat_evalsha:calls=(\d+)/.exec(server.send("info", "commandstats"))?.[1];
      const before = Number(scriptsRun());
      const writes = [vi.spyOn(redis.stream, "_write"), vi.spyOn(redis.stream, "_writev")];
      const written = () => writes.reduce((sum, { mock }) => sum + mock.calls.length, 0);
      const replies = await Promise.all(requests.map((request) => engine.run([request])));
      expect(kindsOf(replies)).toEqual(requests.map(() => "done"));
      expect(written()).toBe(1);
      expect(Number(scriptsRun()) - before).toBe(1);
      // The second batch does not wait for the first: it has a call of its own.
      const [first, second] = await Promise.all([engine.run(many), engine.run(requests)]);
      expect(kindsOf([first, second])).toEqual(Array.from({ length: 155 }, () => "done"));
      expect(written()).toBe(2);
      expect(Number(scriptsRun()) - before).toBe(4);
    });

    test("get their own replies, in order, whichever meters they share", async () => {
      const requests = await Promise.all([primedUsage(), primedUsage()]);
      const acquire = (place: number, points: number): CounterRequest => ({
        ...(requests[place] as CounterRequest),
        command: { kind: "acquire", operationId: randomUUID(), points, ttlMs: 1000, holder: "" },
      });
      const [one, two, three] = await Promise.all([
        engine.run([acquire(0, 1), acquire(1, 10)]),
        engine.run([acquire(0, 2)]),
        engine.run([acquire(1, 20), acquire(0, 3)]),
      ]);
      const reserved = [one, two, three].map((replies) =>
        replies?.map((reply) => reply.kind === "done" && [reply.lease?.points, reply.meterState.dayReserved]),
      );
      expect(reserved).toEqual([
        [
          [1, 1],
          [10, 10],
        ],
        [[2, 3]],
        [
          [20, 30],
          [3, 6],
        ],
      ]);
    });

    test("do not fail with the meter of another: its error is its own", async () => {
      const [good, bad] = [await primedUsage(), await primedUsage()];
      await redis.set(keysOf(bad.meter, "")[0], "not a hash");
      const [first, second, third] = await Promise.allSettled([
        engine.run([bad]),
        engine.run([good]),
        engine.run([good, bad]),
      ]);
      expect(first).toMatchObject({ status: "rejected", reason: { message: expect.stringMatching(/^WRONGTYPE/) } });
      expect(second).toMatchObject({ status: "fulfilled", value: [{ kind: "done" }] });
      expect(third.status).toBe("rejected");
      const lease = { operationId: randomUUID(), day: 0, timezone: 0, points: 1, state: "active" as const };
      const rest = { grantedMs: nowMs, expireMs: nowMs + 1000, settledPoints: undefined, holder: "" };
      const roundTrips = createRoundTrips();
      const counting = createRedisEngine(redis, { remember, roundTrips });
      await expect(counting.restore(bad.meter, rules, { ...lease, ...rest })).rejects.toThrow("WRONGTYPE");
      expect(roundTrips.errors).toBe(1);
    });

    test("hold up no call without requests", async () => {
      const request = await primedUsage();
      server.pause();
      const waiting = engine.run([request]);
      expect(await engine.run([])).toEqual([]);
      server.resume();
      expect(kindsOf([await waiting])).toEqual(["done"]);
    });

    test("have a call for each meter at an address that stands for a cluster", async () => {
      const folder = await mkdtemp(join(tmpdir(), "tollgate-node-"));
      const node = await startRedis([
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        String(await freePort()),
        "--dir",
        folder,
      ]);
      const client = new Redis(node.url);
      try {
        node.send("cluster", "addslotsrange", "0", "16383");
        await expect.poll(() => node.send("cluster", "info")).toContain("cluster_state:ok");
        const clustered = createRedisEngine(client, { remember });
        const requests = [usage(), usage(), usage()];
        for (const turn of [1, 2]) {
          const replies = await Promise.all(requests.map((request) => clustered.run([request])));
          expect({ turn, kinds: kindsOf(replies) }).toEqual({ turn, kinds: ["missing", "missing", "missing"] });
        }
      } finally {
        client.disconnect();
        await node.kill();
        await rm(folder, { recursive: true });
      }
    });
  });

  test.each([0, 1])("reports missing counters when key %i of its two keys is deleted", async (keyIndex) => {
    const request = await primedUsage();
    await redis.del(keysOf(request.meter, "")[keyIndex] ?? "");
    expect((await engine.run([request]))[0]?.kind).toBe("missing");
  });

  test("uses the clock of Redis", async () => {
    const withRedisTime = createRedisEngine(redis, { remember });
    withRedisTime.setGeneration(1);
    const request = usage();
    const [missing] = await withRedisTime.run([request]);
    if (missing?.kind !== "missing") throw new Error("the counters are present already");
    await withRedisTime.prime(request.meter, missing.token, emptySnapshot(missing, rules, {}));
    const before = Date.now();
    const [reply] = await withRedisTime.run([request]);
    const time = reply?.kind === "done" ? reply.meterState.nowMs : 0;
    expect(time).toBeGreaterThanOrEqual(before - 1);
    expect(time).toBeLessThanOrEqual(Date.now() + 1);
  });

  describe("two servers of different generations", () => {
    const createNewerEngine = () => createRedisEngine(redis, { now: () => nowMs, remember });
    const acquire = (points: number) => ({
      kind: "acquire" as const,
      operationId: randomUUID(),
      points,
      ttlMs: 1000,
      holder: "",
    });

    test("the server of the older generation grants nothing once the newer one has asked for the counters", async () => {
      engine.setGeneration(4);
      const request = await primedUsage();
      const newerEngine = createNewerEngine();
      newerEngine.setGeneration(5);
      const [missing] = await newerEngine.run([request]);
      expect(missing?.kind).toBe("missing");
      // The newer server may already have read its snapshot: a grant made now could be missing there.
      expect(await engine.run([{ ...request, command: acquire(1) }])).toEqual([{ kind: "stale", generation: 5 }]);
      await engine.prime(
        request.meter,
        (missing as Missing).token,
        emptySnapshot(missing as Missing, rules, { dayUsed: 4 }),
      );
      await newerEngine.prime(
        request.meter,
        (missing as Missing).token,
        emptySnapshot(missing as Missing, rules, { dayUsed: 5 }),
      );
      expect(await engine.run([request])).toEqual([{ kind: "stale", generation: 5 }]);
      expect(await newerEngine.run([request])).toMatchObject([{ kind: "done", meterState: { dayUsed: 5 } }]);
      engine.setGeneration(5);
      expect(await engine.run([request])).toMatchObject([{ kind: "done", meterState: { dayUsed: 5 } }]);
    });

    test("a prime of the older generation counts for nothing when the newer one has asked for the counters", async () => {
      engine.setGeneration(6);
      const request = usage();
      const [missing] = await engine.run([request]);
      const newerEngine = createNewerEngine();
      newerEngine.setGeneration(7);
      await newerEngine.run([request]);
      await engine.prime(request.meter, (missing as Missing).token, emptySnapshot(missing as Missing, rules, {}));
      expect(await engine.run([request])).toEqual([{ kind: "stale", generation: 7 }]);
      expect((await newerEngine.run([request]))[0]?.kind).toBe("missing");
    });
  });

  test("leaves no keys of a snapshot that arrives too late", async () => {
    const request = await primedUsage();
    const keys = await redis.keys(`${keysOf(request.meter, "")[0].replace(/:state$/, "")}*`);
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
      request.meter,
      (missing as Missing).token,
      emptySnapshot(missing as Missing, rules, { leases: [lease] }),
    );
    expect(await redis.keys(`${keysOf(request.meter, "")[0].replace(/:state$/, "")}*`)).toEqual(keys);
  });

  test("the keys of a meter expire two days after its last use", async () => {
    nowMs = Date.now();
    const idleMs = 172_800_000;
    const request = await primedUsage();
    await engine.run([request]);
    for (const key of keysOf(request.meter, "")) {
      const left = await redis.pttl(key);
      expect(left).toBeGreaterThan(idleMs - 60_000);
      expect(left).toBeLessThanOrEqual(idleMs);
    }
  });

  describe("a settlement whose reply is lost", () => {
    let proxy: Proxy;
    let connection: Redis;
    const lost: Meter[] = [];
    beforeEach(async () => {
      lost.length = 0;
      engine.setGeneration(1);
      proxy = await startProxy(addressOf(server.url));
      connection = new Redis(proxy.url(server.url), {
        commandTimeout: 2000,
        maxRetriesPerRequest: 0,
        enableOfflineQueue: false,
        lazyConnect: true,
      });
      connection.on("error", () => undefined);
      await connection.connect();
    });
    afterEach(async () => {
      connection.disconnect();
      await proxy.close();
    });

    async function granted() {
      const { meter } = await primedUsage();
      const operationId = randomUUID();
      const acquire = { kind: "acquire" as const, operationId, points: 1, ttlMs: 60_000, holder: "" };
      await engine.run([{ meter, rules, command: acquire }]);
      return { meter, rules, command: { kind: "settle" as const, operationId, day: 0, points: 1 } };
    }
    function runThroughProxy(requests: readonly CounterRequest[]) {
      const onLostSettlement = (meter: Meter) => void lost.push(meter);
      const proxied = createRedisEngine(connection, { now: () => nowMs, remember, onLostSettlement });
      proxied.setGeneration(1);
      return proxied.run(requests);
    }

    test("is reported, and other commands are not", async () => {
      const [settle, other] = [await granted(), await primedUsage()];
      proxy.loseAnswers();
      await expect(runThroughProxy([settle, other])).rejects.toThrow("Command timed out");
      await expect.poll(() => lost).toEqual([settle.meter]);
    });

    test("is not reported when its script fails, which is a reply, but others of the batch are", async () => {
      const [failing, settle] = [await granted(), await granted()];
      await redis.set(keysOf(failing.meter, "")[0], "not a hash");
      await expect(runThroughProxy([failing])).rejects.toThrow("WRONGTYPE");
      await expect(runThroughProxy([failing, settle])).rejects.toThrow("WRONGTYPE");
      await expect.poll(() => lost).toEqual([settle.meter]);
    });

    test("is not reported without a connection: nothing was sent", async () => {
      const settle = await granted();
      await proxy.refuse();
      await expect.poll(() => connection.status).not.toBe("ready");
      await expect(runThroughProxy([settle])).rejects.toThrow();
      await proxy.restore();
      await expect.poll(() => connection.status).toBe("ready");
      expect((await runThroughProxy([settle]))[0]).toMatchObject({ kind: "done", before: "active" });
      expect(lost).toEqual([]);
    });
  });
});

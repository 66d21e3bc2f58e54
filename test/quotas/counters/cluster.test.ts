import { Cluster } from "ioredis";
import { afterAll, beforeAll, describe } from "vitest";
import type { CounterEngine } from "../../../src/quotas/counters/engine.ts";
import { createRedisEngine } from "../../../src/quotas/counters/redis.ts";
import { noOwnRedis, startRedisCluster, type TestRedisCluster } from "../../support/redis.ts";
import { remember, testConformance } from "./conformance.ts";

describe.skipIf(noOwnRedis !== "")("the engine on a Redis Cluster of three nodes", () => {
  let servers: TestRedisCluster;
  let redis: Cluster;
  let engine: CounterEngine;
  let nowMs = 0;
  beforeAll(async () => {
    servers = await startRedisCluster();
    redis = new Cluster(servers.nodes.map((port) => ({ host: "127.0.0.1", port })));
    engine = createRedisEngine(redis, { now: () => nowMs, remember });
  });
  afterAll(async () => {
    redis.disconnect();
    await servers.kill();
  });
  testConformance(() => ({
    engine,
    setTime: (time) => {
      nowMs = time;
    },
  }));
});

import { once } from "node:events";
import pino from "pino";
import { expect, test } from "vitest";
import { openRedis } from "../../src/redis/client.ts";
import type { Json } from "../support/app.ts";
import { startProxy } from "../support/proxy.ts";
import { startRedis } from "../support/redis.ts";

test("a lost Redis is one line when it goes and one when it is back", async () => {
  const server = await startRedis();
  const { hostname, port } = new URL(server.url);
  const proxy = await startProxy({ host: hostname, port: Number(port) });
  const log: Json[] = [];
  const redis = openRedis(proxy.url(server.url), pino({}, { write: (line: string) => log.push(JSON.parse(line)) }));
  await once(redis, "ready");
  let attempts = 0;
  redis.on("reconnecting", () => {
    attempts += 1;
  });
  await proxy.refuse();
  await expect.poll(() => attempts, { timeout: 10_000 }).toBeGreaterThanOrEqual(4);
  await proxy.restore();
  await expect.poll(() => redis.status, { timeout: 10_000 }).toBe("ready");
  expect(log.map(({ msg }) => msg)).toEqual(["redis connection lost", "redis connection restored"]);
  redis.disconnect();
  await proxy.close();
  await server.kill();
});

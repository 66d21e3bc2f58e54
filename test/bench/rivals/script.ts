import { readFileSync } from "node:fs";
import { Redis } from "ioredis";
import { createRedisEngine } from "../../../src/quotas/counters/redis.ts";
import type { Fixture } from "./fixture.ts";

const generation = 1;
const remember = { ms: 86_400_000, operations: 2000 };
/** No user of the other loads: these leases never end, and the rivals limit how many run. */
const userId = 1000;
const keys = ["state", "leases"].map((kind) => `tollgate::{${userId}}:1:3:${kind}`);

/** Returns the command that acquires by the script itself, on new counters. `__rand_int__` is the placeholder of the operation. */
export async function prepareScript({ environment }: Fixture): Promise<string[]> {
  const redis = new Redis(environment.REDIS_URL ?? "");
  await redis.del(...keys);
  const text = readFileSync(new URL("../../../src/quotas/counters/meter.lua", import.meta.url), "utf8");
  const sha = String(await redis.script("LOAD", text));
  const engine = createRedisEngine(redis, { remember });
  engine.setGeneration(generation);
  const meter = { userId, service: 1, methodGroup: 3 };
  const rules = { timezone: 0, quotas: [{ pointsPerDay: 1_000_000_000 }] };
  const [reply] = await engine.run([{ meter, rules, command: { kind: "usage" } }]);
  if (reply?.kind !== "missing") throw new Error(`counters that are not there were answered ${reply?.kind}`);
  const { token, day, window } = reply;
  await engine.prime(meter, token, { day, timezone: 0, window, dayUsed: 0, windowUsed: 0, leases: [] });
  redis.disconnect();
  const quotas = "- - 1000000000 1000000000 100000000 -;";
  const acquire =
    "acquire 00000000-0000-0000-0000-__rand_int__ 3 3600000 11111111-2222-3333-4444-555555555555 rival acme";
  const head = [generation, "", remember.ms, remember.operations].map(String);
  return ["EVALSHA", sha, "2", ...keys, ...head, "0", quotas, "1", acquire];
}

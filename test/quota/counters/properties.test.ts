import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Command, CounterEngine, Lease, QuotaLimits, Reply, Rules } from "../../../src/quota/counters/engine.ts";
import { createMemoryEngine } from "../../../src/quota/counters/memory.ts";
import { createRedisEngine } from "../../../src/quota/counters/redis.ts";
import { dayAt, dayMs } from "../../../src/quota/counters/window.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";
import { newMeter } from "./conformance.ts";
import { createModel } from "./model.ts";

const start = Date.UTC(2027, 0, 30, 20);
const today = dayAt(start, 0);
const operations = Array.from({ length: 5 }, (_none, index) => `00000000-0000-4000-8000-00000000000${index}`);

interface Step {
  readonly command: Command;
  readonly timezone: number;
  readonly quotas: readonly QuotaLimits[];
  readonly waitMs: number;
  /** The engine loses everything before the step. */
  readonly loss: boolean;
}

const operationId = fc.constantFrom(...operations);
const points = fc.integer({ min: 0, max: 6 });
const ttlMs = fc.constantFrom(1000, 60_000, 7_200_000);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("acquire" as const),
      operationId,
      points,
      ttlMs,
      holder: fc.constant("a b"),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("settle" as const), operationId, day: fc.constant(0), points }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("release" as const), operationId, day: fc.constant(0) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("renew" as const), operationId, day: fc.constant(0), ttlMs }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("check" as const), points }) },
  { weight: 1, arbitrary: fc.constant({ kind: "usage" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "leases" as const }) },
);
const limit = fc.option(fc.integer({ min: 0, max: 12 }), { nil: undefined });
const limits = fc
  .record({ pointsPerRequest: limit, pointsPerDay: limit, pointsPerDateWindow: limit, maxConcurrentExecution: limit })
  .map((all) => Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as QuotaLimits);
const dated = fc
  .record({ limits, from: fc.integer({ min: today - 1, max: today + 2 }), days: fc.integer({ min: 1, max: 3 }) })
  .map(({ limits: own, from, days }) => ({ ...own, period: { from, to: from + days } }));
const quotas = fc.oneof(
  { weight: 4, arbitrary: limits.map((base) => [base]) },
  { weight: 2, arbitrary: fc.tuple(limits, dated).map((both) => both) },
  { weight: 1, arbitrary: fc.constant([]) },
);
// Long steps over few: all within the day for which ended operations are remembered, so the model forgets nothing.
const waitMs = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(0, 1, 999, 1000, 59_999, 60_000) },
  { weight: 1, arbitrary: fc.constantFrom(3_600_000, 4 * 3_600_000) },
);
const step: fc.Arbitrary<Step> = fc.record({
  command,
  timezone: fc.oneof(
    { weight: 5, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: -12, max: 12 }) },
  ),
  quotas,
  waitMs,
  loss: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
});

describe.skipIf(noOwnRedis !== "")("any calls in any order end as the model says", () => {
  let server: TestRedis;
  let redis: Redis;
  let nowMs = start;
  const engines: [string, () => CounterEngine][] = [
    ["in this process", () => createMemoryEngine({ now: () => nowMs })],
    ["on Redis", () => createRedisEngine(redis, { now: () => nowMs })],
  ];
  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
  });
  afterAll(async () => {
    redis.disconnect();
    await server.kill();
  });

  test.each(engines)("%s", async (_name, open) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
        nowMs = start;
        const meter = newMeter();
        const engine = open();
        const model = createModel();
        let generation = 1;
        engine.setGeneration(generation);
        for (const { command, timezone, quotas, waitMs: wait, loss } of steps) {
          nowMs = Math.min(nowMs + wait, start + dayMs - 1);
          if (loss) engine.setGeneration((generation += 1));
          const rules: Rules = { timezone, quotas };
          const known = [...model.leases.values()];
          const day = model.day();
          const reply = await askPrimed(engine, { meter, rules, command }, known, day);
          expect(observed(reply, command)).toEqual(expected(model.ask(rules, command, nowMs), command));
        }
      }),
      { numRuns: 300 },
    );
  });

  async function askPrimed(
    engine: CounterEngine,
    ask: Parameters<CounterEngine["run"]>[0][number],
    known: readonly Lease[],
    current: { day: number; offset: number } | undefined,
  ): Promise<Reply> {
    const [reply] = await engine.run([ask]);
    if (reply?.kind !== "missing") return reply as Reply;
    // The ledger knows the day and the offset of the newest lease; the model knows those of the newest question.
    const day = current?.day ?? reply.day;
    const sum = (isIn: (day: number) => boolean) =>
      known.filter((lease) => isIn(lease.day)).reduce((all, { settledPoints = 0 }) => all + settledPoints, 0);
    await engine.prime(ask.meter, {
      day,
      timezone: current?.offset ?? ask.rules.timezone,
      window: reply.window,
      dayUsed: sum((one) => one === day),
      windowUsed: sum((one) => reply.window.from <= one && one < reply.window.to),
      leases: known,
    });
    return askPrimed(engine, ask, known, current);
  }
});

function observed(reply: Reply, command: Command) {
  if (reply.kind === "missing" || reply.kind === "stale") throw new Error(`${reply.kind} after it was primed`);
  const { dayEndMs, window, dayUsed, windowUsed, dayReserved, windowReserved, running } = reply.standing;
  const sums = { dayEndMs, window, dayUsed, windowUsed, dayReserved, windowReserved, running };
  const lease = "lease" in reply && reply.kind === "done" ? reply.lease : undefined;
  return {
    kind: reply.kind,
    ...sums,
    ...(reply.kind === "refused" && { violated: reply.violated }),
    ...(reply.kind === "done" && "operationId" in command && { before: reply.before, state: lease?.state }),
  };
}

function expected(outcome: ReturnType<ReturnType<typeof createModel>["ask"]>, command: Command) {
  const { before, state, violated, ...rest } = outcome;
  return {
    ...rest,
    ...(outcome.kind === "refused" && { violated }),
    ...(outcome.kind === "done" && "operationId" in command && { before, state }),
  };
}

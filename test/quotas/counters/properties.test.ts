import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, createCounters } from "../../../src/quotas/counters/counters.ts";
import type {
  Command,
  CounterEngine,
  Lease,
  Meter,
  QuotaLimits,
  Reply,
  Rules,
} from "../../../src/quotas/counters/engine.ts";
import { createMemoryEngine } from "../../../src/quotas/counters/memory.ts";
import { createRedisEngine } from "../../../src/quotas/counters/redis.ts";
import { dayAt, dayMs } from "../../../src/shared/calendar.ts";
import { noOwnRedis, startRedis, type TestRedis } from "../../support/redis.ts";
import { runs } from "../../support/runs.ts";
import { newMeter, remember } from "./conformance.ts";
import { createModel } from "./model.ts";

const start = Date.UTC(2027, 0, 30, 20);
const today = dayAt(start, 0);
const operations = Array.from({ length: 5 }, (_none, index) => `00000000-0000-4000-8000-00000000000${index}`);

interface Step {
  readonly command: Command;
  /** Selects one of the operation's granted leases: 0 is the last, 1 the one before. */
  readonly back: number;
  readonly timezone: number;
  readonly quotas: readonly QuotaLimits[];
  readonly waitMs: number;
  /** The counters that the engine loses before the step. */
  readonly loss: "none" | "meter" | "generation";
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
  .map(({ limits: periodLimits, from, days }) => ({ ...periodLimits, period: { from, to: from + days } }));
const quotas = fc.oneof(
  { weight: 4, arbitrary: limits.map((base) => [base]) },
  { weight: 2, arbitrary: fc.tuple(limits, dated).map((both) => both) },
  { weight: 1, arbitrary: fc.constant([]) },
);
const waitMs = fc.oneof(
  { weight: 12, arbitrary: fc.constantFrom(0, 1, 999, 1000, 59_999, 60_000) },
  { weight: 2, arbitrary: fc.constantFrom(3_600_000, 4 * 3_600_000) },
  { weight: 1, arbitrary: fc.constantFrom(dayMs - 1, dayMs, 25 * 3_600_000, 3 * dayMs) },
);
const step: fc.Arbitrary<Step> = fc.record({
  command,
  back: fc.constantFrom(0, 0, 0, 1),
  timezone: fc.oneof(
    { weight: 5, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: -12, max: 12 }) },
  ),
  quotas,
  waitMs,
  loss: fc.constantFrom(...Array.from({ length: 10 }, () => "none" as const), "meter" as const, "generation" as const),
});

describe.skipIf(noOwnRedis !== "")("counters agree with the model after any sequence of commands", () => {
  let server: TestRedis;
  let redis: Redis;
  let nowMs = start;
  const engines: [string, () => CounterEngine][] = [
    ["in this process", () => createMemoryEngine({ now: () => nowMs, remember })],
    ["on Redis", () => createRedisEngine(redis, { now: () => nowMs, remember })],
  ];
  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
  });
  afterAll(async () => {
    redis.disconnect();
    await server.kill();
  });

  test.each(engines)(
    "%s",
    async (_name, open) => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), async (steps) => {
          nowMs = start;
          const meter = newMeter();
          const engine = open();
          const model = createModel(remember);
          const granted = new Map<string, number[]>();
          let generation = 1;
          engine.setGeneration(generation);
          const counters = createCounters({
            engine,
            readSnapshot: async (_meter, missing, rules) => model.snapshot(missing, rules),
            findLease: async (_meter, operationId, day) => model.find(day, operationId),
          });
          for (const { command: drawn, back, timezone, quotas, waitMs: wait, loss } of steps) {
            nowMs += wait;
            if (loss === "meter") await engine.forget(meter);
            if (loss === "generation") engine.setGeneration((generation += 1));
            if (loss !== "none") model.lose(nowMs);
            const rules: Rules = { timezone, quotas };
            const days = granted.get("operationId" in drawn ? drawn.operationId : "") ?? [];
            const command = "day" in drawn ? { ...drawn, day: days.at(-1 - back) ?? days.at(-1) ?? 0 } : drawn;
            const [answer] = await counters.execute([{ meter, rules, command }]);
            const outcome = model.execute(rules, command, nowMs);
            expect(observed(answer as Answer, command)).toEqual(expected(outcome, command));
            if (answer?.kind !== "done" || answer.lease === undefined) continue;
            const { operationId, day } = answer.lease;
            if (!days.includes(day)) granted.set(operationId, [...days, day]);
            if (outcome.contradicts === true) await counters.forget(meter);
          }
        }),
        { numRuns: runs(150) },
      );
    },
    // For a long run by hand: RUNS_FACTOR=100.
    runs(150) * 100,
  );
});

/** Two meters, and rules that change between the commands of a batch. */
const batches = fc.array(
  fc.record({
    waitMs,
    requests: fc.array(
      fc.record({
        meterIndex: fc.constantFrom(0, 0, 1),
        command,
        rulesIndex: fc.constantFrom(0, 0, 0, 1),
      }),
      { minLength: 1, maxLength: 12 },
    ),
  }),
  { minLength: 1, maxLength: 12 },
);

test.skipIf(noOwnRedis !== "")(
  "Redis answers the commands of a batch as this process answers them one by one",
  async () => {
    const server = await startRedis();
    const redis = new Redis(server.url);
    let nowMs = start;
    const clock = { now: () => nowMs, remember };
    await fc.assert(
      fc.asyncProperty(batches, fc.tuple(quotas, quotas), async (drawn, quotasOfRules) => {
        nowMs = start;
        const meters = [newMeter(), newMeter()] as const;
        const engines = [createRedisEngine(redis, clock), createMemoryEngine(clock)] as const;
        for (const engine of engines) engine.setGeneration(1);
        for (const { waitMs: wait, requests } of drawn) {
          nowMs += wait;
          const sent = requests.map(({ meterIndex, command: given, rulesIndex }) => ({
            meter: meters[meterIndex],
            rules: { timezone: 0, quotas: quotasOfRules[rulesIndex] as QuotaLimits[] },
            command: given,
          }));
          for (const meter of meters) {
            const first = sent.find((request) => request.meter === meter);
            for (const engine of engines) if (first !== undefined) await primeIfMissing(engine, meter, first.rules);
          }
          const [onRedis, inMemory] = engines;
          const replies = await onRedis.run(sent);
          // Rules with another window need a prime between the commands.
          if (replies.some(({ kind }) => kind === "missing")) return;
          const oneByOne = await inMemory.run(sent);
          expect(replies.map(inOrder)).toEqual(oneByOne.map(inOrder));
        }
      }),
      { numRuns: runs(60) },
    );
    redis.disconnect();
    await server.kill();
  },
  runs(60) * 250,
);

/** Leases that expire at once have no order. */
function inOrder(reply: Reply): Reply {
  if (reply.kind !== "leases") return reply;
  const order = (one: Lease, other: Lease) => (one.operationId < other.operationId ? -1 : 1);
  return { ...reply, leases: reply.leases.toSorted(order) };
}

async function primeIfMissing(engine: CounterEngine, meter: Meter, rules: Rules): Promise<void> {
  const [reply] = await engine.run([{ meter, rules, command: { kind: "usage" } }]);
  if (reply?.kind !== "missing") return;
  const { token, day, window } = reply;
  const snapshot = { day, timezone: rules.timezone, window, dayUsed: 0, windowUsed: 0, leases: [] };
  await engine.prime(meter, token, snapshot);
}

function observed(answer: Answer, command: Command) {
  const { dayEndMs, window, dayUsed, windowUsed, dayReserved, windowReserved, running } = answer.meterState;
  const sums = { dayEndMs, window, dayUsed, windowUsed, dayReserved, windowReserved, running };
  const lease = "lease" in answer && answer.kind === "done" ? answer.lease : undefined;
  return {
    kind: answer.kind,
    ...sums,
    ...(answer.kind === "refused" && { violated: answer.violated }),
    ...(answer.kind === "done" && "operationId" in command && { before: answer.before, state: lease?.state }),
  };
}

function expected(outcome: ReturnType<ReturnType<typeof createModel>["execute"]>, command: Command) {
  const { kind, before, state, dayEndMs, window, dayUsed, windowUsed, dayReserved, windowReserved, running } = outcome;
  return {
    kind,
    dayEndMs,
    window,
    dayUsed,
    windowUsed,
    dayReserved,
    windowReserved,
    running,
    ...(kind === "refused" && { violated: outcome.violated }),
    ...(kind === "done" && "operationId" in command && { before, state }),
  };
}

import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { createCounters } from "../../../src/quotas/counters/counters.ts";
import type { CounterEngine, Meter } from "../../../src/quotas/counters/engine.ts";
import { createMemoryEngine } from "../../../src/quotas/counters/memory.ts";
import { methodKey, rulesOf, type Subject } from "../../../src/quotas/limits/subjects.ts";
import {
  createUsageWatches,
  type UsageUpdate,
  type Watch,
  type WatchLimits,
} from "../../../src/quotas/watch/usage-watches.ts";

const ms = { intervalMs: 5, checkMs: 60_000 };

test("a stream begins with all usage in parts, then sends what changes, and nothing else", async () => {
  const fixture = createFixture({ users: 3, methods: 400 });
  const stream = fixture.open({ usernames: ["user_0", "user_1", "user_2"] });
  const parts = [await next(stream), await next(stream), await next(stream)];
  expect(parts.map(({ usages, more }) => [usages.length, more])).toEqual([
    [500, true],
    [500, true],
    [200, false],
  ]);
  await fixture.settle("user_1", 7, 12);
  const { usages, more } = await next(stream);
  expect(usages.map(({ meter }) => [meter.user.username, meter.methodGroup, meter.state?.dayUsed])).toEqual([
    ["user_1", 7, 12],
  ]);
  expect(more).toBe(false);
  await stream.return(undefined);
});

test("many streams of one user cost one read a tick, and none when they are closed", async () => {
  const fixture = createFixture({ users: 1, methods: 3 });
  const streams = Array.from({ length: 10 }, (_none, index) => fixture.open({ callerId: index }));
  for (const stream of streams) await next(stream);
  fixture.runs.length = 0;
  await expect.poll(() => fixture.runs.length).toBeGreaterThan(5);
  expect(new Set(fixture.runs)).toEqual(new Set([3]));
  for (const stream of streams) await stream.return(undefined);
  // A read that runs now may end after the streams.
  await expect.poll(() => isUnchanged(fixture.runs, 10)).toBe(true);
});

test("a reader that is slow gets the latest state of each meter once", async () => {
  const fixture = createFixture({ users: 1, methods: 2 });
  const [slow, fast] = [fixture.open({ callerId: 1 }), fixture.open({ callerId: 2 })];
  await next(slow);
  const meters = (await next(fast)).usages.map(({ meter }) => meter);
  for (let points = 1; points <= 20; points += 1) {
    await fixture.settle("user_0", points % 2, 1);
    await next(fast);
  }
  while (meters.some(({ state }) => state?.dayUsed !== 10)) await next(fast);
  const { usages, more } = await next(slow);
  expect(usages.map(({ meter }) => meter.state?.dayUsed)).toEqual([10, 10]);
  expect(more).toBe(false);
  await Promise.all([slow.return(undefined), fast.return(undefined)]);
});

test("a stream without a change sends an empty update, and ends with WATCH_ENDED at its age", async () => {
  const fixture = createFixture({ users: 1, methods: 1, limits: { checkMs: 20, maxAgeMs: 100 } });
  const stream = fixture.open();
  await next(stream);
  expect(await next(stream)).toEqual({ usages: [], more: false });
  expect(await failureOf(drain(stream))).toMatchObject({ code: Code.Unavailable, message: /open it again/ });
});

test("stop ends every stream with a delay for the retry, also one that is not read, and refuses others", async () => {
  const fixture = createFixture({ users: 1, methods: 1 });
  const [waiting, unread] = [fixture.open(), fixture.open()];
  await next(waiting);
  await next(unread);
  const ending = failureOf(next(waiting));
  fixture.watches.stop();
  for (const error of [await ending, await failureOf(next(unread)), await failureOf(next(fixture.open()))]) {
    expect(error).toMatchObject({ code: Code.Unavailable });
    expect(ConnectError.from(error).metadata.get("retry-after")).toMatch(/^[01]$/);
  }
});

test("a caller has a bounded number of streams, and a closed one makes room", async () => {
  const fixture = createFixture({ users: 1, methods: 1, limits: { streamsOfCaller: 2, streams: 3 } });
  const [first, second] = [fixture.open({ callerId: 1 }), fixture.open({ callerId: 1 })];
  await next(first);
  await next(second);
  expect(await failureOf(next(fixture.open({ callerId: 1 })))).toMatchObject({ code: Code.Unavailable });
  const other = fixture.open({ callerId: 2 });
  await next(other);
  expect(await failureOf(next(fixture.open({ callerId: 3 })))).toMatchObject({ code: Code.Unavailable });
  await first.return(undefined);
  const replacing = fixture.open({ callerId: 1 });
  await next(replacing);
  fixture.watches.stop();
});

test("the users of a company leave streams to others", async () => {
  const fixture = createFixture({ users: 1, methods: 1, limits: { streamsOfCompany: 2 } });
  for (const callerId of [1, 2]) await next(fixture.open({ callerId, callerCompany: "acme" }));
  expect(await failureOf(next(fixture.open({ callerId: 3, callerCompany: "acme" })))).toMatchObject({
    code: Code.Unavailable,
    message: expect.stringContaining("your company"),
  });
  await next(fixture.open({ callerId: 4, callerCompany: "other" }));
  fixture.watches.stop();
});

test("a stream that is refused because too much is watched ends no other", async () => {
  const fixture = createFixture({ users: 4, methods: 2, limits: { meters: 5 } });
  const stream = fixture.open({ usernames: ["user_0", "user_1"] });
  await next(stream);
  let release = () => undefined as void;
  fixture.duringNextRead(() => new Promise<void>((resolve) => (release = resolve)));
  const refused = failureOf(next(fixture.open({ callerId: 9, usernames: ["user_2", "user_3"] })));
  fixture.watches.invalidate([100]);
  await fixture.settle("user_0", 0, 5);
  expect((await next(stream)).usages.map(({ meter }) => meter.user.username)).toEqual(["user_0"]);
  release();
  expect(await refused).toMatchObject({ code: Code.Unavailable });
  fixture.watches.stop();
});

test.each<[string, Partial<WatchLimits>, Code]>([
  ["users of a stream", { usersOfStream: 2 }, Code.FailedPrecondition],
  ["quotas of a stream", { metersOfStream: 5 }, Code.FailedPrecondition],
  ["quotas of all streams", { meters: 5 }, Code.Unavailable],
])("too many %s are refused, and are not read", async (_what, limits, code) => {
  const fixture = createFixture({ users: 3, methods: 2, limits });
  const usernames = ["user_0", "user_1", "user_2"];
  expect(await failureOf(next(fixture.open({ usernames })))).toMatchObject({ code });
  expect(fixture.runs).toEqual([]);
  const allowed = fixture.open({ usernames: usernames.slice(0, 2) });
  expect((await next(allowed)).usages).toHaveLength(4);
  fixture.watches.stop();
});

test("a quota that is added or removed reaches the stream after the notice", async () => {
  const fixture = createFixture({ users: 1, methods: 2 });
  const stream = fixture.open();
  await next(stream);
  fixture.setMethods("user_0", [1, 2]);
  fixture.watches.invalidate([0]);
  const seen = new Map<number, boolean>();
  while (seen.size < 2) {
    for (const { meter } of (await next(stream)).usages) seen.set(meter.methodGroup, meter.state !== undefined);
  }
  expect([...seen].toSorted()).toEqual([
    [0, false],
    [2, true],
  ]);
  await stream.return(undefined);
});

test("a notice that arrives while a user is read is not lost", async () => {
  const fixture = createFixture({ users: 1, methods: 1, limits: { checkMs: 20 } });
  fixture.duringNextRead(() => {
    fixture.setMethods("user_0", [0, 1]);
    fixture.watches.invalidate([0]);
  });
  const stream = fixture.open();
  expect((await next(stream)).usages).toHaveLength(1);
  let usages = (await next(stream)).usages;
  while (usages.length === 0) usages = (await next(stream)).usages;
  expect(usages.map(({ meter }) => meter.methodGroup)).toEqual([1]);
  await stream.return(undefined);
});

test("a user who is not visible any more leaves the stream, and nothing later of it is sent", async () => {
  const fixture = createFixture({ users: 2, methods: 1 });
  const [company, everyone] = [fixture.open({ usernames: ["user_0", "user_1"] }), fixture.open({ callerId: 9 })];
  await next(company);
  await next(everyone);
  fixture.hide("user_0");
  fixture.setMethods("user_0", [0, 1]);
  fixture.watches.invalidate([0]);
  expect((await next(company)).usages.map(({ meter, isGone }) => [meter.user.username, isGone])).toEqual([
    ["user_0", true],
  ]);
  await fixture.settle("user_0", 0, 5);
  await fixture.settle("user_1", 0, 6);
  expect((await next(company)).usages.map(({ meter }) => meter.user.username)).toEqual(["user_1"]);
  fixture.watches.stop();
});

test("a notice of the caller ends its stream with the error of the check", async () => {
  const fixture = createFixture({ users: 1, methods: 1 });
  const stream = fixture.open({ callerId: 5 });
  await next(stream);
  fixture.setRefusal(new ConnectError("the token is not valid", Code.Unauthenticated));
  const ending = failureOf(next(stream));
  fixture.watches.invalidate([6]);
  await fixture.settle("user_0", 0, 5);
  expect(await ending).toBeUndefined();
  fixture.watches.invalidate([5]);
  expect(await failureOf(next(stream))).toMatchObject({ code: Code.Unauthenticated });
});

test("a failure of the counters ends the streams with its error", async () => {
  const fixture = createFixture({ users: 1, methods: 1 });
  const stream = fixture.open();
  await next(stream);
  fixture.breakCounters();
  expect(await failureOf(next(stream))).toMatchObject({ code: Code.Unavailable });
});

test("an abort ends a stream that waits", async () => {
  const fixture = createFixture({ users: 1, methods: 1 });
  const left = new AbortController();
  const stream = fixture.open({ signal: left.signal });
  await next(stream);
  const ended = stream.next();
  left.abort();
  expect((await ended).done).toBe(true);
});

interface FixtureOptions {
  readonly users: number;
  readonly methods: number;
  readonly limits?: Partial<WatchLimits>;
}

function createFixture({ users, methods, limits }: FixtureOptions) {
  const now = () => Date.UTC(2026, 10, 26, 12);
  const engine = createMemoryEngine({ now, remember: { ms: 1000, operations: 10 } });
  const runs: number[] = [];
  let isBroken = false;
  let refusal: Error | undefined;
  let duringRead = (): Promise<void> | void => undefined;
  const hidden = new Set<string>();
  const counted: CounterEngine = {
    ...engine,
    run(requests) {
      if (isBroken) return Promise.reject(new Error("lost"));
      if (requests.some(({ command }) => command.kind === "usage")) runs.push(requests.length);
      return engine.run(requests);
    },
  };
  const counters = createCounters({
    engine: counted,
    readSnapshot: async (_meter, { day, window }, { timezone }) => ({
      day,
      window,
      timezone,
      dayUsed: 0,
      windowUsed: 0,
      leases: [],
    }),
    findLease: async () => undefined,
  });
  const methodsOf = new Map<string, readonly number[]>();
  const subjectOf = (username: string): Subject => {
    const own = methodsOf.get(username) ?? Array.from({ length: methods }, (_none, index) => index);
    return {
      userId: Number(username.slice("user_".length)),
      username,
      companyKey: "acme",
      enabled: true,
      timezone: 0,
      quotas: new Map(own.map((method) => [methodKey(1, method), [{ pointsPerDay: 1000 }]])),
    };
  };
  const subjects = {
    async byName(username: string) {
      const found = Number(username.slice("user_".length)) < users ? subjectOf(username) : undefined;
      const work = duringRead;
      duringRead = () => undefined;
      await work();
      return found;
    },
  };
  const watches = createUsageWatches({ subjects, counters, byDefault: [], limits: { ...ms, ...limits } });
  return {
    watches,
    runs,
    open: (
      fields: Partial<Pick<Watch, "callerId" | "callerCompany" | "signal">> & {
        readonly usernames?: readonly string[];
      } = {},
    ) =>
      watches.open({
        callerId: 100,
        callerCompany: "acme",
        signal: new AbortController().signal,
        async resolve() {
          if (refusal !== undefined) throw refusal;
          const isVisible = ({ username }: Subject) => fields.usernames === undefined || !hidden.has(username);
          return { usernames: fields.usernames ?? ["user_0"], isVisible };
        },
        ...fields,
      }),
    async settle(username: string, methodGroup: number, points: number) {
      const subject = subjectOf(username);
      const meter: Meter = { userId: subject.userId, service: 1, methodGroup };
      const rules = rulesOf(subject, 1, methodGroup, []);
      const operationId = crypto.randomUUID();
      const day = Math.floor(now() / 86_400_000);
      const acquire = { kind: "acquire", operationId, points: 0, ttlMs: 60_000, holder: "" } as const;
      await counters.execute([{ meter, rules, command: acquire }]);
      await counters.execute([{ meter, rules, command: { kind: "settle", operationId, day, points } }]);
    },
    setMethods: (username: string, own: readonly number[]) => void methodsOf.set(username, own),
    duringNextRead: (work: () => Promise<void> | void) => void (duringRead = work),
    hide: (username: string) => void hidden.add(username),
    setRefusal: (error: Error) => void (refusal = error),
    breakCounters: () => void (isBroken = true),
  };
}

async function next(stream: AsyncGenerator<UsageUpdate>): Promise<UsageUpdate> {
  const { value, done } = await stream.next();
  if (done === true) throw new Error("the stream has ended");
  return value;
}

async function drain(stream: AsyncGenerator<UsageUpdate>): Promise<void> {
  for await (const _update of stream);
}

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

async function isUnchanged(list: readonly unknown[], milliseconds: number): Promise<boolean> {
  const before = list.length;
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  return list.length === before;
}

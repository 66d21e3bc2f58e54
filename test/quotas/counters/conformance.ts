import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import type {
  Command,
  CounterEngine,
  CounterRequest,
  Lease,
  Meter,
  Missing,
  QuotaLimits,
  Reply,
  Rules,
  Snapshot,
} from "../../../src/quotas/counters/engine.ts";
import { windowAt } from "../../../src/quotas/counters/window.ts";
import { dayAt, dayMs, hourMs } from "../../../src/shared/calendar.ts";

export interface Subject {
  readonly engine: CounterEngine;
  /** Sets the engine's clock. */
  setTime(nowMs: number): void;
}

/** The day in a command locates the lease in the ledger. The engines ignore it. */
const day = 0;
const noon = Date.UTC(2026, 10, 24, 12);
let users = 0;

/** Declares the tests that every engine passes; src/quotas/counters/engine.ts states the contract. */
export function testConformance(subject: () => Subject): void {
  let meter: Meter;
  beforeEach(() => {
    meter = newMeter();
    at(noon);
    subject().engine.setGeneration(1);
  });

  function at(time: number): void {
    subject().setTime(time);
  }

  const rules = (quota: QuotaLimits = {}, timezone = 0): Rules => ({ timezone, quotas: [quota] });

  /** Runs the command. Primes the counters with `snapshot` (default: empty) when they are missing, and runs it again. */
  async function execute(command: Command, given: Rules = rules(), snapshot: Partial<Snapshot> = {}): Promise<Reply> {
    const requests: CounterRequest[] = [{ meter, rules: given, command }];
    const [reply] = await subject().engine.run(requests);
    if (reply?.kind !== "missing") return reply as Reply;
    await subject().engine.prime(meter, reply.token, emptySnapshot(reply, given, snapshot));
    return (await subject().engine.run(requests))[0] as Reply;
  }

  const acquire = (points: number, given?: Rules, operationId: string = randomUUID(), ttlMs = 60_000) =>
    execute({ kind: "acquire", operationId, points, ttlMs, holder: "code service" }, given);
  const settle = (operationId: string, points: number, given?: Rules) =>
    execute({ kind: "settle", operationId, day, points }, given);
  const release = (operationId: string, given?: Rules) => execute({ kind: "release", operationId, day }, given);
  const renew = (operationId: string, given?: Rules) =>
    execute({ kind: "renew", operationId, day, ttlMs: 60_000 }, given);
  const usage = async (given?: Rules) => meterStateOf(await execute({ kind: "usage" }, given));
  const prime = (missing: Reply, given: Rules, snapshot: Partial<Snapshot>) =>
    subject().engine.prime(meter, (missing as Missing).token, emptySnapshot(missing, given, snapshot));

  test("grants a lease and returns the state of every limit", async () => {
    const quota = { pointsPerRequest: 50, pointsPerDay: 100, pointsPerDateWindow: 1000, maxConcurrentExecution: 2 };
    const operationId = randomUUID();
    const reply = await acquire(30, rules(quota), operationId);
    const day = dayAt(noon, 0);
    expect(reply).toEqual({
      kind: "done",
      before: undefined,
      lease: {
        operationId,
        day,
        timezone: 0,
        points: 30,
        state: "active",
        grantedMs: noon,
        expireMs: noon + 60_000,
        settledPoints: undefined,
        holder: "code service",
      },
      meterState: {
        nowMs: noon,
        day,
        dayEndMs: Date.UTC(2026, 10, 25),
        window: { from: Date.UTC(2026, 10, 1) / dayMs, to: Date.UTC(2026, 11, 1) / dayMs },
        windowEndMs: Date.UTC(2026, 11, 1),
        dayUsed: 0,
        windowUsed: 0,
        dayReserved: 30,
        windowReserved: 30,
        running: 1,
        limits: quota,
      },
    });
  });

  test.each<[string, QuotaLimits, number, string[]]>([
    ["the points of a request", { pointsPerRequest: 9 }, 10, ["pointsPerRequest"]],
    ["the points of a day", { pointsPerDay: 14 }, 10, ["pointsPerDay"]],
    ["the points of a window", { pointsPerDateWindow: 14 }, 10, ["pointsPerDateWindow"]],
    ["the concurrency", { maxConcurrentExecution: 1 }, 10, ["maxConcurrentExecution"]],
    [
      "several limits",
      { pointsPerRequest: 9, pointsPerDay: 14, pointsPerDateWindow: 100, maxConcurrentExecution: 1 },
      10,
      ["pointsPerRequest", "pointsPerDay", "maxConcurrentExecution"],
    ],
    [
      "a quota that allows nothing",
      { pointsPerDay: 0, maxConcurrentExecution: 0 },
      1,
      ["pointsPerDay", "maxConcurrentExecution"],
    ],
    ["a request limit of 0, with 0 points", { pointsPerRequest: 0 }, 0, ["pointsPerRequest"]],
    ["a day limit of 0, with 0 points", { pointsPerDay: 0 }, 0, ["pointsPerDay"]],
    ["a window limit of 0, with 0 points", { pointsPerDateWindow: 0 }, 0, ["pointsPerDateWindow"]],
  ])(
    "refuses an acquire beyond %s, names each violated limit, and changes nothing",
    async (_what, quota, points, violated) => {
      const first = randomUUID();
      await acquire(5, rules(), first);
      expect(await acquire(points, rules(quota))).toMatchObject({ kind: "refused", violated, lease: undefined });
      expect(await execute({ kind: "check", points }, rules(quota))).toMatchObject({ kind: "refused", violated });
      expect(await usage()).toMatchObject({ dayReserved: 5, windowReserved: 5, running: 1 });
    },
  );

  test("grants exactly up to the limit", async () => {
    const quota = { pointsPerDay: 15 };
    await acquire(5, rules(quota));
    expect((await acquire(10, rules(quota))).kind).toBe("done");
    expect((await acquire(1, rules(quota))).kind).toBe("refused");
    expect((await acquire(0, rules(quota))).kind).toBe("done");
  });

  test("refuses every acquire when no quota applies, and still settles", async () => {
    const operationId = randomUUID();
    await acquire(5, rules(), operationId);
    const none: Rules = { timezone: 0, quotas: [] };
    expect(await acquire(1, none)).toMatchObject({ kind: "refused", violated: [] });
    expect(await settle(operationId, 4, none)).toMatchObject({
      kind: "done",
      meterState: { dayUsed: 4, dayReserved: 0 },
    });
  });

  test("reserves points once when an operation is acquired repeatedly", async () => {
    const operationId = randomUUID();
    const first = await acquire(5, rules(), operationId);
    at(noon + 1000);
    const again = await acquire(5, rules(), operationId);
    expect(again).toMatchObject({ kind: "done", before: "active", lease: leaseOf(first) });
    expect(await acquire(6, rules(), operationId)).toMatchObject({ kind: "conflict", lease: { points: 5 } });
    expect((await usage()).dayReserved).toBe(5);
  });

  test("grants an operation that it refused before", async () => {
    const operationId = randomUUID();
    expect((await acquire(5, rules({ pointsPerDay: 4 }), operationId)).kind).toBe("refused");
    expect((await acquire(5, rules({ pointsPerDay: 5 }), operationId)).kind).toBe("done");
  });

  test.each([
    ["fewer points", 3],
    ["the same points", 5],
    ["more points, beyond the limit", 50],
  ])("a settlement with %s replaces the reservation", async (_what, points) => {
    const operationId = randomUUID();
    const quota = rules({ pointsPerDay: 10 });
    await acquire(5, quota, operationId);
    const settled = await settle(operationId, points, quota);
    expect(settled).toMatchObject({
      kind: "done",
      before: "active",
      lease: { state: "settled", settledPoints: points },
    });
    expect(meterStateOf(settled)).toMatchObject({
      dayUsed: points,
      windowUsed: points,
      dayReserved: 0,
      windowReserved: 0,
      running: 0,
    });
    expect(await settle(operationId, points, quota)).toMatchObject({ kind: "done", before: "settled" });
    expect((await settle(operationId, points + 1, quota)).kind).toBe("conflict");
    expect((await usage(quota)).dayUsed).toBe(points);
  });

  test.each<[string, ("settle" | "release")[], string, number]>([
    ["released", ["release"], "released", 0],
    ["released twice", ["release", "release"], "released", 0],
    ["settled, then released", ["settle", "release"], "settled", 7],
    ["released, then settled", ["release", "settle"], "settled", 7],
  ])("a lease that is %s ends in the expected state", async (_what, steps, state, used) => {
    const operationId = randomUUID();
    await acquire(5, rules(), operationId);
    const step = {
      settle: () => settle(operationId, 7),
      release: () => release(operationId),
    };
    for (const name of steps) expect((await step[name]()).kind).toBe("done");
    expect(leaseOf(await renew(operationId))?.state).toBe(state);
    expect(await usage()).toMatchObject({ dayUsed: used, dayReserved: 0, running: 0 });
  });

  test("refuses to acquire a settled operation again", async () => {
    const operationId = randomUUID();
    await acquire(5, rules(), operationId);
    await settle(operationId, 7);
    for (const points of [5, 6]) {
      expect(await acquire(points, rules(), operationId)).toMatchObject({
        kind: "conflict",
        lease: { state: "settled", settledPoints: 7 },
      });
    }
    expect(await usage()).toMatchObject({ dayUsed: 7, dayReserved: 0, running: 0 });
  });

  describe.each<[string, (operationId: string) => Promise<unknown>]>([
    ["released", (operationId) => release(operationId)],
    ["expired", async () => at(noon + 60_000)],
  ])("an operation whose lease is %s", (state, end) => {
    test("is granted again as a new lease while the limits allow it", async () => {
      const operationId = randomUUID();
      const quota = rules({ maxConcurrentExecution: 1, pointsPerDay: 10 });
      await acquire(5, quota, operationId);
      await end(operationId);
      at(noon + 61_000);
      expect(await acquire(6, quota, operationId)).toMatchObject({
        kind: "done",
        before: state,
        lease: { state: "active", points: 6, grantedMs: noon + 61_000 },
      });
      expect(await usage()).toMatchObject({ dayReserved: 6, running: 1 });
      await settle(operationId, 4);
      expect(await usage()).toMatchObject({ dayUsed: 4, dayReserved: 0, running: 0 });
    });

    test("is refused at the concurrency limit, and stays as it is", async () => {
      const operationId = randomUUID();
      const quota = rules({ maxConcurrentExecution: 1 });
      await acquire(5, quota, operationId);
      await end(operationId);
      at(noon + 61_000);
      await acquire(1, quota);
      expect(await acquire(5, quota, operationId)).toMatchObject({
        kind: "refused",
        violated: ["maxConcurrentExecution"],
        lease: undefined,
      });
      expect(await usage()).toMatchObject({ dayReserved: 1, running: 1 });
    });

    test("is granted on a later day from the points of that day", async () => {
      const operationId = randomUUID();
      const quota = rules({ pointsPerDay: 5 });
      await acquire(5, quota, operationId);
      await end(operationId);
      const other = randomUUID();
      await acquire(5, quota, other);
      await settle(other, 5, quota);
      at(noon + 12 * hourMs);
      expect(await acquire(5, quota, operationId)).toMatchObject({
        kind: "done",
        lease: { day: dayAt(noon, 0) + 1 },
        meterState: { dayReserved: 5 },
      });
      expect((await acquire(1, quota)).kind).toBe("refused");
    });
  });

  test("an expired lease frees its slot and its points", async () => {
    const quota = rules({ maxConcurrentExecution: 1, pointsPerDay: 5 });
    const lost = randomUUID();
    await acquire(5, quota, lost);
    at(noon + 59_999);
    expect((await acquire(5, quota)).kind).toBe("refused");
    at(noon + 60_000);
    expect((await acquire(5, quota)).kind).toBe("done");
    expect(await settle(lost, 6, quota)).toMatchObject({
      kind: "done",
      before: "expired",
      meterState: { dayUsed: 6, dayReserved: 5, running: 1 },
    });
  });

  test("a renewal extends a lease and never shortens it", async () => {
    const operationId = randomUUID();
    await acquire(5, rules(), operationId, 90_000);
    expect(leaseOf(await renew(operationId))?.expireMs).toBe(noon + 90_000);
    at(noon + 60_000);
    expect(await renew(operationId)).toMatchObject({
      kind: "done",
      before: "active",
      lease: { expireMs: noon + 120_000 },
    });
    at(noon + 119_999);
    expect((await usage()).running).toBe(1);
  });

  test("thousands of leases that expire at once free their slots", async () => {
    await usage();
    for (let calls = 0; calls < 5; calls += 1) {
      const command = () => ({
        kind: "acquire" as const,
        operationId: randomUUID(),
        points: 1,
        ttlMs: 60_000,
        holder: "",
      });
      await subject().engine.run(Array.from({ length: 1000 }, () => ({ meter, rules: rules(), command: command() })));
    }
    expect(await usage()).toMatchObject({ running: 5000, dayReserved: 5000 });
    at(noon + 60_000);
    expect(await usage()).toMatchObject({ running: 0, dayReserved: 0 });
  });

  test("a renewal revives an expired lease while the limits allow it", async () => {
    const quota = rules({ maxConcurrentExecution: 1 });
    const operationId = randomUUID();
    await acquire(5, quota, operationId);
    at(noon + 61_000);
    const other = randomUUID();
    await acquire(1, quota, other);
    expect(await renew(operationId, quota)).toMatchObject({
      kind: "refused",
      violated: ["maxConcurrentExecution"],
      lease: { operationId, state: "expired" },
    });
    await release(other, quota);
    expect(await renew(operationId, quota)).toMatchObject({
      kind: "done",
      before: "expired",
      lease: { state: "active", holder: "code service" },
    });
    expect(await usage(quota)).toMatchObject({ dayReserved: 5, running: 1 });
  });

  test("a renewal of a settled lease changes nothing", async () => {
    const operationId = randomUUID();
    await acquire(5, rules(), operationId);
    await settle(operationId, 2);
    expect(await renew(operationId)).toMatchObject({ kind: "done", before: "settled", lease: { state: "settled" } });
    expect((await usage()).running).toBe(0);
  });

  test("answers unknown for an operation that was never granted", async () => {
    await usage();
    for (const command of [renew, release, (operationId: string) => settle(operationId, 1)]) {
      expect((await command(randomUUID())).kind).toBe("unknown");
    }
  });

  test("remembers an ended operation for a day", async () => {
    const operationId = randomUUID();
    await acquire(5, rules(), operationId);
    await settle(operationId, 5);
    at(noon + dayMs - 1);
    expect((await renew(operationId)) as object).toMatchObject({ before: "settled" });
    at(noon + dayMs);
    expect((await settle(operationId, 5)).kind).toBe("unknown");
  });

  test("forgets an ended operation before it executes a command on it", async () => {
    const operationId = randomUUID();
    await acquire(5, rules(), operationId);
    await settle(operationId, 5);
    at(noon + dayMs);
    expect(await acquire(7, rules(), operationId)).toMatchObject({
      kind: "done",
      before: undefined,
      lease: { points: 7 },
    });
  });

  test("remembers the last ended operations, as many as configured", async () => {
    const operations = Array.from({ length: remember.operations + 2 }, () => randomUUID());
    for (const [index, operationId] of operations.entries()) {
      at(noon + index);
      await acquire(1, rules(), operationId);
      await release(operationId);
    }
    at(noon + 1000);
    const running = randomUUID();
    await acquire(1, rules(), running);
    const states = [];
    for (const operationId of [...operations, running]) {
      const reply = await renew(operationId);
      states.push(leaseOf(reply)?.state ?? reply.kind);
    }
    expect(states).toEqual(["unknown", "unknown", ...operations.slice(2).map(() => "released"), "active"]);
  });

  test("an expired lease is remembered from its expiry, whenever the engine notices it", async () => {
    const operationId = randomUUID();
    await acquire(5, rules(), operationId);
    at(noon + 60_000 + dayMs - 1);
    expect(await settle(operationId, 5)).toMatchObject({ kind: "done", before: "expired" });
    const other = randomUUID();
    at(noon + 2 * dayMs);
    await acquire(5, rules(), other);
    at(noon + 2 * dayMs + 60_000 + dayMs);
    expect((await settle(other, 5)).kind).toBe("unknown");
  });

  test("lists live leases in order of expiry", async () => {
    const [first, second] = [randomUUID(), randomUUID()];
    await acquire(1, rules(), second, 90_000);
    await acquire(2, rules(), first, 30_000);
    await release(leaseOf(await acquire(3))?.operationId ?? "");
    const reply = await execute({ kind: "leases" });
    const leases = reply.kind === "leases" ? reply.leases : [];
    expect(leases.map(({ operationId, points, holder }) => [operationId, points, holder])).toEqual([
      [first, 2, "code service"],
      [second, 1, "code service"],
    ]);
  });

  describe("days and windows", () => {
    const timezones = Array.from({ length: 25 }, (_none, index) => index - 12);

    test.each(timezones)("a day at UTC%i begins at its local midnight", async (timezone) => {
      const quota = rules({ pointsPerDay: 5 }, timezone);
      const midnight = Date.UTC(2026, 10, 25) - timezone * hourMs;
      at(midnight - 1);
      const operationId = randomUUID();
      const before = await acquire(5, quota, operationId);
      expect(meterStateOf(before).dayEndMs).toBe(midnight);
      expect((await acquire(1, quota)).kind).toBe("refused");
      at(midnight);
      const after = await acquire(5, quota);
      expect(after).toMatchObject({ kind: "done", meterState: { dayReserved: 5, windowReserved: 10, running: 2 } });
      // The settlement belongs to the day of the acquire.
      expect(await settle(operationId, 4, quota)).toMatchObject({
        meterState: { dayUsed: 0, windowUsed: 4, windowReserved: 5 },
      });
    });

    test.each([
      ["2027-01-31", 28],
      ["2027-02-28", 31],
      ["2028-02-29", 31],
      ["2026-12-31", 31],
    ])("the month after %s has %i days, and begins with no used points", async (last, days) => {
      const midnight = Date.parse(`${last}T00:00:00Z`) + dayMs;
      at(midnight - 1);
      await acquire(5);
      expect((await usage()).windowEndMs).toBe(midnight);
      at(midnight);
      const meterState = await usage();
      expect(meterState).toMatchObject({
        windowUsed: 0,
        windowReserved: 0,
        running: 1,
        windowEndMs: midnight + days * dayMs,
      });
    });

    test.each([
      ["west", 3, -5],
      ["east", -5, 3],
    ])("a user whose timezone moves %s gets the points of a day once", async (_where, from, to) => {
      const operationId = randomUUID();
      await acquire(5, rules({ pointsPerDay: 5 }, from), operationId);
      await settle(operationId, 5, rules({ pointsPerDay: 5 }, from));
      const moved = rules({ pointsPerDay: 5 }, to);
      const later = Date.UTC(2026, 10, 25) - Math.min(from, to) * hourMs;
      at(later - 1);
      const late = await acquire(5, moved);
      expect(late).toMatchObject({ kind: "refused", violated: ["pointsPerDay"], meterState: { dayEndMs: later } });
      at(later);
      expect((await acquire(5, moved)).kind).toBe("done");
    });

    test("a quota of a period applies on the days of the period, and its window is the period", async () => {
      const today = dayAt(noon, 0);
      const period = { from: today + 1, to: today + 3 };
      const both: Rules = { timezone: 0, quotas: [{ pointsPerDateWindow: 100 }, { period, pointsPerDateWindow: 8 }] };
      await acquire(20, both);
      at(noon + dayMs);
      const inPeriod = await acquire(5, both);
      expect(meterStateOf(inPeriod)).toMatchObject({
        window: period,
        windowReserved: 5,
        limits: { pointsPerDateWindow: 8 },
      });
      at(noon + 2 * dayMs);
      expect((await acquire(9, both)).kind).toBe("refused");
      at(noon + 3 * dayMs);
      const missing = await subject().engine.run([{ meter, rules: both, command: { kind: "usage" } }]);
      expect(missing[0]).toEqual({
        kind: "missing",
        token: expect.any(String),
        nowMs: noon + 3 * dayMs,
        day: today + 3,
        window: windowAt(today + 3, both.quotas).window,
      });
    });

    test("a lease keeps the UTC offset of its day after the user's timezone changes", async () => {
      await acquire(5, rules({}, -12));
      const moved = await acquire(5, rules({}, 12));
      expect(leaseOf(moved)).toMatchObject({ day: dayAt(noon, -12), timezone: -12 });
    });

    describe("a window that began earlier", () => {
      const today = dayAt(noon, 0);
      const wide = rules({ period: { from: today - 3, to: today + 3 } });
      const readUsage = () => subject().engine.run([{ meter, rules: wide, command: { kind: "usage" } }]);

      test("is read again after a settlement", async () => {
        const operationId = randomUUID();
        await acquire(5, rules(), operationId);
        const [missing] = await readUsage();
        // Another server, with the old quota in its cache, settles meanwhile.
        await settle(operationId, 4);
        await prime(missing as Reply, wide, { windowUsed: 40 });
        expect((await readUsage())[0]?.kind).toBe("missing");
        expect(meterStateOf(await execute({ kind: "usage" }, wide, { windowUsed: 44 }))).toMatchObject({
          dayUsed: 4,
          windowUsed: 44,
        });
      });

      test("leaves the counters of the day and the leases as they are", async () => {
        const running = randomUUID();
        await acquire(5, rules(), running);
        const used = randomUUID();
        await acquire(3, rules(), used);
        await settle(used, 3);
        const reply = await execute({ kind: "usage" }, wide, { windowUsed: 40 });
        expect(meterStateOf(reply)).toMatchObject({ dayUsed: 3, dayReserved: 5, windowUsed: 40, windowReserved: 5 });
        expect(await renew(running, wide)).toMatchObject({ kind: "done", before: "active" });
      });

      test.each<[string, Partial<Lease>, number]>([
        ["of a settlement that the ledger does not have yet", {}, 44],
        ["of one whose lease the ledger has released", { state: "released", endedMs: noon }, 44],
        ["of one that the ledger has, once", { state: "settled", settledPoints: 4, endedMs: noon }, 40],
        ["of an earlier grant, once", { grantedMs: noon + 1 }, 40],
      ])("has the points %s", async (_what, inLedger, windowUsed) => {
        const granted = leaseOf(await acquire(5)) as Lease;
        await settle(granted.operationId, 4);
        const [missing] = await readUsage();
        await prime(missing as Reply, wide, { windowUsed: 40, leases: [{ ...granted, ...inLedger }] });
        const after = { dayUsed: 4, dayReserved: 0, windowUsed, windowReserved: 0 };
        expect(meterStateOf((await readUsage())[0] as Reply)).toMatchObject(after);
        // A call that is repeated because its reply was lost.
        expect(meterStateOf(await settle(granted.operationId, 4, wide))).toMatchObject(after);
      });

      test("has no points of a settlement on a day before it", async () => {
        const granted = leaseOf(await acquire(5)) as Lease;
        at(noon + dayMs);
        await settle(granted.operationId, 4);
        // The settlement is still remembered.
        at(noon + 2 * dayMs - 1);
        const later = rules({ period: { from: today + 1, to: today + 9 } });
        const [missing] = await subject().engine.run([{ meter, rules: later, command: { kind: "usage" } }]);
        await prime(missing as Reply, later, { windowUsed: 40, leases: [granted] });
        expect(await usage(later)).toMatchObject({ windowUsed: 40 });
      });
    });
  });

  describe("counters primed from the ledger", () => {
    const lease = (fields: Partial<Lease>): Lease => ({
      operationId: randomUUID(),
      day: dayAt(noon, 0),
      timezone: 0,
      points: 5,
      state: "active",
      grantedMs: noon - 1000,
      expireMs: noon + 1000,
      settledPoints: undefined,
      holder: "code service",
      ...fields,
    });

    test("hold the sums and the leases of the snapshot", async () => {
      const yesterday = lease({ day: dayAt(noon, 0) - 1 });
      const settled = lease({ state: "settled", settledPoints: 3, holder: "" });
      const late = lease({ expireMs: noon - 1 });
      const leases = [lease({}), yesterday, settled, late];
      const reply = await execute({ kind: "usage" }, rules(), { dayUsed: 3, windowUsed: 30, leases });
      expect(meterStateOf(reply)).toMatchObject({
        dayUsed: 3,
        windowUsed: 30,
        dayReserved: 5,
        windowReserved: 10,
        running: 2,
      });
      expect(await acquire(5, rules(), settled.operationId)).toMatchObject({ kind: "conflict" });
      expect(await settle(late.operationId, 1)).toMatchObject({ kind: "done", before: "expired" });
    });

    test("keep the first snapshot when later ones arrive", async () => {
      const given = rules();
      const [missing] = await subject().engine.run([{ meter, rules: given, command: { kind: "usage" } }]);
      const snapshots = Array.from({ length: 100 }, (_none, index) =>
        emptySnapshot(missing as Reply, given, { dayUsed: 7, windowUsed: 7, leases: [lease({ points: index })] }),
      );
      const { token } = missing as Missing;
      await subject().engine.prime(meter, token, snapshots[0] as Snapshot);
      await acquire(1);
      await Promise.all(snapshots.slice(1).map((snapshot) => subject().engine.prime(meter, token, snapshot)));
      expect(await usage()).toMatchObject({ dayUsed: 7, windowUsed: 7, dayReserved: 1, running: 2 });
    });

    test("ignore a snapshot that was read before another loss", async () => {
      const readUsage = async () =>
        (await subject().engine.run([{ meter, rules: rules(), command: { kind: "usage" } }]))[0];
      const before = (await readUsage()) as Reply;
      await acquire(5);
      await subject().engine.forget(meter);
      // No request has come for the meter since the loss.
      await prime(before, rules(), {});
      expect((await readUsage())?.kind).toBe("missing");
      // After a request the meter waits for another snapshot.
      await prime(before, rules(), {});
      expect((await readUsage())?.kind).toBe("missing");
    });

    test("give all requests of a missing meter the same token, and keep the first prime", async () => {
      const readUsage = async () =>
        (await subject().engine.run([{ meter, rules: rules(), command: { kind: "usage" } }]))[0];
      const [first, second] = [await readUsage(), await readUsage()] as Missing[];
      expect(first?.token).toBe(second?.token);
      await prime(first as Reply, rules(), { dayUsed: 1 });
      await prime(second as Reply, rules(), { dayUsed: 2 });
      expect((await usage()).dayUsed).toBe(1);
    });

    test("keep the later of two leases with the same operation", async () => {
      const first = lease({ grantedMs: noon - 2000, expireMs: noon - 1500, day: dayAt(noon, 0) - 1 });
      const second = lease({ operationId: first.operationId, points: 7 });
      const reply = await execute({ kind: "usage" }, rules(), { leases: [first, second] });
      expect(meterStateOf(reply)).toMatchObject({ dayReserved: 7, windowReserved: 7, running: 1 });
    });

    test("remember an ended operation from its end", async () => {
      const ended = lease({ state: "released", endedMs: noon - dayMs + 1000, holder: "" });
      await execute({ kind: "usage" }, rules(), { leases: [ended] });
      expect(await renew(ended.operationId)).toMatchObject({ before: "released" });
      at(noon + 1000);
      expect((await renew(ended.operationId)).kind).toBe("unknown");
    });

    test("take more leases than fit into one call of Redis", async () => {
      const leases = Array.from({ length: 2500 }, () => lease({ points: 2 }));
      const reply = await execute({ kind: "usage" }, rules(), { leases });
      expect(meterStateOf(reply)).toMatchObject({ dayReserved: 5000, running: 2500 });
    });

    test("continue a day that has not ended at the user's previous offset", async () => {
      // Primed with the day at the old offset, UTC-12: there the 24th ends at 12:00 UTC of the 25th.
      at(Date.UTC(2026, 10, 25, 1));
      const reply = await execute({ kind: "usage" }, rules({}, 0), { day: dayAt(noon, 0), timezone: -12, dayUsed: 9 });
      expect(meterStateOf(reply)).toMatchObject({
        day: dayAt(noon, 0),
        dayUsed: 9,
        dayEndMs: Date.UTC(2026, 10, 25, 12),
      });
    });

    test.each<[string, Partial<Lease>, object]>([
      ["a running lease takes its slot", {}, { dayReserved: 5, dayUsed: 0, running: 1 }],
      ["an expired lease can be settled", { expireMs: noon - 1 }, { dayReserved: 0, dayUsed: 0, running: 0 }],
      [
        "a settled lease is not charged again",
        { state: "settled", settledPoints: 4, holder: "" },
        { dayReserved: 0, dayUsed: 0, windowUsed: 0, running: 0 },
      ],
      ["a released lease is known", { state: "released", holder: "" }, { dayReserved: 0, dayUsed: 0, running: 0 }],
      [
        "a lease of another day counts in the window",
        { day: dayAt(noon, 0) - 1 },
        { dayReserved: 0, windowReserved: 5 },
      ],
    ])("restore a lease once: %s", async (_what, fields, meterState) => {
      await usage();
      const lost = lease(fields);
      await subject().engine.restore(meter, rules(), lost);
      await subject().engine.restore(meter, rules(), lost);
      expect(await usage()).toMatchObject(meterState);
      expect((await release(lost.operationId)).kind).toBe("done");
    });

    test("settle a lease restored after the clock was set back, even when the list of ended operations is full", async () => {
      await usage();
      const ended = Array.from({ length: remember.operations }, () => lease({ state: "released", holder: "" }));
      for (const endedLease of ended) await subject().engine.restore(meter, rules(), endedLease);
      at(noon - 3 * dayMs);
      const lost = lease({ expireMs: noon - 4 * dayMs });
      await subject().engine.restore(meter, rules(), lost);
      expect((await settle(lost.operationId, 4)).kind).toBe("done");
    });

    test("are missing under another generation", async () => {
      await acquire(5);
      subject().engine.setGeneration(2);
      const [reply] = await subject().engine.run([{ meter, rules: rules(), command: { kind: "usage" } }]);
      expect(reply?.kind).toBe("missing");
      expect((await usage()).dayReserved).toBe(0);
    });
  });

  describe("concurrent callers", () => {
    test("never exceed a limit together", async () => {
      await usage();
      const quota = rules({ pointsPerDay: 100, maxConcurrentExecution: 7 });
      const replies = await Promise.all(Array.from({ length: 100 }, () => acquire(9, quota)));
      expect(replies.filter(({ kind }) => kind === "done").length).toBe(7);
      const more = await Promise.all(Array.from({ length: 100 }, () => acquire(9, rules({ pointsPerDay: 100 }))));
      expect(more.filter(({ kind }) => kind === "done").length).toBe(4);
    });

    test("reserve the points of one operation once", async () => {
      await usage();
      const operationId = randomUUID();
      await Promise.all(Array.from({ length: 100 }, () => acquire(3, rules(), operationId)));
      expect(await usage()).toMatchObject({ dayReserved: 3, running: 1 });
    });

    test("get the answers of a batch in its order, across meters", async () => {
      await usage();
      const other = newMeter();
      const quota = rules({ pointsPerDay: 10 });
      const command = (points: number): Command => ({
        kind: "acquire",
        operationId: randomUUID(),
        points,
        ttlMs: 1000,
        holder: "",
      });
      const replies = await subject().engine.run([
        { meter, rules: quota, command: command(6) },
        { meter: other, rules: quota, command: command(1) },
        { meter, rules: quota, command: command(5) },
        { meter, rules: quota, command: command(4) },
      ]);
      expect(replies.map(({ kind }) => kind)).toEqual(["done", "missing", "refused", "done"]);
    });
  });
}

/** The bounds on ended operations that the engines under test remember. */
export const remember = { ms: dayMs, operations: 50 };

/** Returns a meter of a user that no other test uses, in this process or another. */
export function newMeter(): Meter {
  users += 1;
  return { userId: process.pid * 1_000_000 + users, service: 2, methodGroup: 3 };
}

export function emptySnapshot(missing: Reply, { timezone }: Rules, fields: Partial<Snapshot>): Snapshot {
  if (missing.kind !== "missing") throw new Error(`nothing is missing: ${missing.kind}`);
  const { day, window } = missing;
  return { day, timezone, window, dayUsed: 0, windowUsed: 0, leases: [], ...fields };
}

export function meterStateOf(reply: Reply) {
  if (reply.kind === "missing" || reply.kind === "stale") throw new Error(`the counters are ${reply.kind}`);
  return reply.meterState;
}

export function leaseOf(reply: Reply): Lease | undefined {
  return "lease" in reply ? reply.lease : undefined;
}

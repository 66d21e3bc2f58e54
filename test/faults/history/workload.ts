import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { Method_Group } from "#gen/tollgate/v1/tracedata_pb.js";
import type { Asked, Calls, Held } from "./callers.ts";
import type { Random } from "./random.ts";

export const groups = [Method_Group.PLAN, Method_Group.MATRIX] as const;

export interface Workload {
  /** Runs callers until enough operations are answered and the faults are over, then ends their leases. */
  run(callers: number, isOver: () => boolean): Promise<void>;
  /** The reasons why leases were not settled. The expected value is empty. */
  readonly stuck: string[];
}

export interface WorkloadOptions {
  readonly calls: Calls;
  readonly random: Random;
  readonly servers: number;
  /** The current users. */
  readonly users: () => readonly string[];
}

/** The number of ended and abandoned leases that are kept for repetitions hours and days later. */
const mostKept = 3000;
const settleLimitMs = 90_000;

/** Planners: each acquires with a call, a batch or a stream, and ends its leases in one of many ways. */
export function createWorkload({ calls, random, servers, users }: WorkloadOptions): Workload {
  const stuck: string[] = [];
  /** Settled leases with their acknowledged points. */
  const settled: { held: Held; points: number }[] = [];
  /** Leases that no caller ended. */
  const abandoned: Held[] = [];
  const anyServer = () => random.between(0, servers - 1);

  function keep<Item>(list: Item[], item: Item): void {
    if (list.length < mostKept) list.push(item);
    else list[random.between(0, mostKept - 1)] = item;
  }

  function ask(ttl: number): Asked {
    const points = random.chance(0.03) ? random.between(10, 40) : random.between(0, 9);
    return { user: random.pick(users()), group: random.pick(groups), op: randomUUID(), points, ttl };
  }

  async function runSingle(): Promise<void> {
    const asked = ask(random.chance(0.3) ? random.between(1, 3) : 20);
    let [held] = await calls.acquire("single", anyServer(), [asked]);
    // The answer may be lost: the request is repeated at another server.
    if (random.chance(held === undefined ? 0.5 : 0.15)) {
      const [again] = await calls.acquire("single", anyServer(), [asked]);
      held ??= again;
    }
    if (held === undefined) return wait(random.between(5, 40));
    await wait(random.between(0, 60));
    if (random.chance(0.3)) await calls.end("renew", anyServer(), held);
    await end(held);
  }

  async function many(how: "batch" | "stream"): Promise<void> {
    const asked = Array.from({ length: random.between(30, 120) }, () => ask(random.between(3, 20)));
    const granted = await calls.acquire(how, anyServer(), asked);
    const held = granted.filter((lease) => lease !== undefined);
    if (held.length === 0) return wait(random.between(20, 100));
    if (random.chance(0.1)) await calls.acquire(how, anyServer(), asked);
    await Promise.all(held.map(end));
  }

  /** Ends a lease in one way. */
  async function end(held: Held): Promise<void> {
    const kind = random.next();
    if (kind < 0.12) return release(held);
    if (kind < 0.18) return keep(abandoned, held);
    if (kind < 0.24) return settleTwice(held);
    await settle(held, pointsOf(held));
    if (random.chance(0.05)) await calls.end("release", anyServer(), held);
  }

  function pointsOf({ points }: Held): number {
    return random.chance(0.1) ? points + random.between(1, 10) : random.between(0, points);
  }

  /** Repeats a settlement until it is acknowledged: a planner never abandons a finished calculation. */
  async function settle(held: Held, points: number): Promise<void> {
    const giveUpMs = performance.now() + settleLimitMs;
    for (;;) {
      const outcome = await calls.end("settle", anyServer(), held, points);
      if (outcome === "ok") return keep(settled, { held, points });
      // The checker verifies this answer.
      if (outcome === "refused") return;
      if (performance.now() > giveUpMs) return void stuck.push(`${held.lease} was not settled in ${settleLimitMs} ms`);
      await wait(random.between(30, 150));
    }
  }

  /** Sends two settlements with different points concurrently to any two servers: at most one may succeed. */
  async function settleTwice(held: Held): Promise<void> {
    const points = pointsOf(held);
    const settling = (settled: number) => calls.end("settle", anyServer(), held, settled);
    const outcomes = await Promise.all([settling(points), settling(points + 1)]);
    if (outcomes.includes("ok")) return;
    // One of the two may have taken effect in the counters: it is repeated until it is acknowledged.
    for (const settled of [points, points + 1]) await settle(held, settled);
  }

  async function release(held: Held): Promise<void> {
    for (let attempt = 0; attempt < 5; attempt += 1) {
      if ((await calls.end("release", anyServer(), held)) !== "open") break;
      await wait(50);
    }
    // The calculation ran after all, or the operation is requested again.
    if (random.chance(0.05)) await settle(held, held.points);
    else if (random.chance(0.1)) {
      const [again] = await calls.acquire("single", anyServer(), [{ ...held, ttl: 5 }]);
      if (again !== undefined) await settle(again, again.points);
    }
  }

  /** Repeats the calls on ended leases, minutes or days later by the moved clock. */
  async function repeat(): Promise<void> {
    const past = settled.length > 0 ? random.pick(settled) : undefined;
    if (past !== undefined) {
      const kind = random.next();
      if (kind < 0.6) await calls.end("settle", anyServer(), past.held, past.points);
      else if (kind < 0.7) await calls.end("settle", anyServer(), past.held, past.points + 1);
      else if (kind < 0.8) await calls.end("release", anyServer(), past.held);
      else if (kind < 0.9) await calls.end("renew", anyServer(), past.held);
      else {
        const [again] = await calls.acquire("single", anyServer(), [{ ...past.held, ttl: 5 }]);
        if (again !== undefined) await settle(again, again.points);
      }
    }
    if (abandoned.length < 20) return;
    const [late] = abandoned.splice(random.between(0, abandoned.length - 1), 1);
    if (late === undefined) return;
    if (random.chance(0.3)) await calls.end("renew", anyServer(), late);
    await settle(late, late.points);
  }

  const step = async () => {
    const kind = random.next();
    if (kind < 0.5) return runSingle();
    if (kind < 0.68) return many("batch");
    if (kind < 0.8) return many("stream");
    if (kind < 0.97) return repeat();
    const counted = Array.from({ length: random.between(5, 20) }, () => random.pick(users()));
    return calls.recordActions(anyServer(), counted, random.pick(groups));
  };

  return {
    stuck,
    async run(callers, isOver) {
      const caller = async () => {
        while (!isOver()) await step();
      };
      await Promise.all(Array.from({ length: callers }, caller));
    },
  };
}

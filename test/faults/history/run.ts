import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { createAdministrator } from "./administrator.ts";
import { createCalls } from "./callers.ts";
import { createPlanners, http, login } from "./client.ts";
import { type Fault, planFaults } from "./faults.ts";
import { createRandom } from "./random.ts";
import { createWorkload, groups } from "./workload.ts";
import { startWorld, type World } from "./world.ts";

export interface RunOptions {
  readonly operations: number;
  readonly faults: number;
  readonly seed: number;
  readonly callers: number;
  readonly users: number;
  readonly settings: Readonly<Record<string, string>>;
  readonly source: string;
  /** The prefix of the names of the faults. Empty selects all. */
  readonly only: string;
  /** The pause between two changes of users, in milliseconds. */
  readonly changePauseMs: number;
}

export interface RunSummary {
  readonly operations: number;
  readonly seconds: number;
  readonly faults: ReadonlyMap<string, number>;
  readonly changes: ReadonlyMap<string, number>;
  /** Failures outside the history: a server that does not serve again, an exit code. */
  readonly troubles: readonly string[];
}

/** Reads the options from the environment; see docs/development.md, "Faults". */
export function optionsOf(environment: Readonly<Record<string, string | undefined>>): RunOptions {
  const number = (name: string, byDefault: number) => Number(environment[name] ?? byDefault);
  return {
    operations: number("FAULTS_OPERATIONS", 10_000),
    faults: number("FAULTS_COUNT", 14),
    seed: number("FAULTS_SEED", 1),
    callers: number("FAULTS_CALLERS", 32),
    users: number("FAULTS_USERS", 12),
    settings: { LEDGER_ACK: environment["FAULTS_ACK"] ?? "commit" },
    source: fileURLToPath(new URL("../../..", import.meta.url)),
    only: environment["FAULTS_ONLY"] ?? "",
    changePauseMs: 900,
  };
}

/** The timeout is generous: a machine may be busy, and each fault takes time. */
export function timeoutOf({ operations, faults }: RunOptions): number {
  return 180_000 + operations * 20 + faults * 60_000;
}

/** Returns the summary as lines. */
export function describeRun({ seed }: RunOptions, { operations, seconds, faults, changes }: RunSummary): string[] {
  const list = (counts: ReadonlyMap<string, number>) =>
    [...counts].toSorted().map(([kind, count]) => `  ${count} × ${kind}`);
  const sum = (counts: ReadonlyMap<string, number>) => [...counts.values()].reduce((total, count) => total + count, 0);
  const rate = (operations / seconds).toFixed();
  return [
    `seed ${seed}: ${operations} operations in ${seconds.toFixed(1)} s, ${rate} a second`,
    `${sum(faults)} faults`,
    ...list(faults),
    `${sum(changes)} changes of users`,
    ...list(changes),
  ];
}

const recoveryLimitMs = 60_000;
/** Every fourth fault overlaps the next one. */
const doubleChance = 0.25;
const prober = "prober";
const dayMs = 86_400_000;
const minuteMs = 60_000;

/**
 * Returns the time until a minute before midnight UTC on the tenth of a month. At midnight UTC half of the timezones are a
 * day ahead. On the tenth the date windows of most quotas last longer than a short history, so their sums are compared at its end.
 */
function msToStart(now: Date): number {
  const startIn = (months: number) => Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + months, 11) - minuteMs;
  const [thisMonth, nextMonth] = [startIn(0), startIn(1)];
  return (thisMonth > now.getTime() ? thisMonth : nextMonth) - now.getTime();
}

/** Runs one history in a world until all leases have ended and the counters are read. */
export async function runHistory(options: RunOptions): Promise<{ world: World; summary: RunSummary }> {
  const { operations, faults: count, seed, callers, settings, source } = options;
  const world = await startWorld({ servers: 2, settings, source });
  try {
    return { world, summary: await run(world) };
  } catch (error) {
    await world.stop();
    throw error;
  }

  async function run(world: World): Promise<RunSummary> {
    await world.moveClock(msToStart(new Date()));
    const random = createRandom(seed);
    const [{ url } = { url: "" }] = world.servers;
    const admin = await login(url, "admin");
    const administrator = createAdministrator(world, admin, createRandom(seed + 1), options.changePauseMs);
    await administrator.begin(options.users);
    const body = { username: "planner", password: "first administrator", company_key: "company_a", roles: ["BOT"] };
    await http(url, "POST", "/admin/users", { token: admin, body });
    const token = await login(url, "planner");
    const calls = createCalls(world, createPlanners(world, token), random);
    const users = administrator.users;
    const workload = createWorkload({ calls, random, servers: world.servers.length, users });
    const troubles: string[] = [];
    const done = new Map<string, number>();
    const isFull = () => calls.progress.operations >= operations;
    let areFaultsOver = count === 0;
    const isOver = () => (isFull() && areFaultsOver) || troubles.length > 0;
    const startMs = performance.now();

    const plan = planFaults(count, createRandom(seed + 2), options.only);
    const breaking = breakThings(plan);
    await Promise.all([
      workload.run(callers, isOver),
      administrator.run(isOver).catch((error: unknown) => void troubles.push(String(error))),
      breaking,
    ]);
    const seconds = (performance.now() - startMs) / 1000;
    await finish();
    return {
      operations: calls.progress.operations,
      seconds,
      faults: done,
      changes: administrator.changes,
      troubles: [...troubles, ...workload.stuck],
    };

    async function breakThings(plan: readonly Fault[]): Promise<void> {
      for (let index = 0; index < plan.length && troubles.length === 0; index += 1) {
        const due = (operations * (index + 1)) / (plan.length + 1);
        while (calls.progress.operations < due && troubles.length === 0) await wait(10);
        const isDouble = random.chance(doubleChance) && index + 1 < plan.length;
        const together = plan.slice(index, index + (isDouble ? 2 : 1));
        index += together.length - 1;
        const sent = performance.now();
        const failures = await Promise.allSettled(together.map((fault) => fault.run({ world, random })));
        for (const failure of failures) if (failure.status === "rejected") troubles.push(String(failure.reason));
        await recover(together.map(({ kind }) => kind).join(" and "));
        for (const { kind } of together) {
          world.record({ call: "fault", kind, sent, answered: performance.now() });
          done.set(kind, (done.get(kind) ?? 0) + 1);
        }
      }
      areFaultsOver = true;
    }

    /** Waits until every server decides and writes again. */
    async function recover(after: string): Promise<void> {
      await Promise.all(
        world.servers.map(async ({ index, process }) => {
          const giveUpMs = performance.now() + recoveryLimitMs;
          while (!(await probe(index))) {
            if (performance.now() > giveUpMs) {
              troubles.push(`server ${index} does not serve ${recoveryLimitMs} ms after ${after}: ${process.output()}`);
              return;
            }
            await wait(100);
          }
        }),
      );
    }

    async function probe(server: number): Promise<boolean> {
      const { url: own } = world.servers[server] as World["servers"][number];
      const [user = ""] = users();
      const check = { username: user, service: "ROUTING", method_group: "PLAN", points: 0 };
      const decided = await http(own, "POST", "/quota/leases:check", { token, body: check });
      const key = `${prober}_${Math.floor(random.next() * 1e9)}`;
      const written = await http(own, "POST", "/admin/companies", { token: admin, body: { key } });
      return decided.status > 0 && decided.status < 500 && written.status === 201;
    }

    /** Waits until every lease has ended and the servers have written their queues. */
    async function finish(): Promise<void> {
      // Long enough for leases that were granted while the clock was ahead.
      await world.moveClock(world.furthestMs() - world.movedMs() + dayMs);
      await wait(3000);
      for (const { index, url: own } of world.servers) {
        for (const user of users()) {
          const sent = performance.now();
          const { status, body } = await http(own, "GET", `/quota/usage/${user}`, { token });
          if (status !== 200) troubles.push(`the usage of ${user} at the end: ${status} ${body}`);
          else
            world.record({
              call: "usage",
              server: index,
              user,
              usages: usagesOf(body),
              sent,
              answered: performance.now(),
            });
        }
      }
      const codes = await world.end();
      if (codes.some((code) => code !== 0)) troubles.push(`servers ended with the exit codes ${codes.join(", ")}`);
      await world.closeHistory();
    }
  }
}

interface UsageBody {
  readonly usages: readonly {
    readonly method_group: string;
    readonly limits: readonly { readonly name: string; readonly used: number; readonly reserved: number }[];
  }[];
}

function usagesOf(body: string) {
  const { usages } = JSON.parse(body) as UsageBody;
  return usages.map(({ method_group, limits }) => {
    const of = (name: string) => limits.find((limit) => limit.name === name);
    return {
      group: method_group === "PLAN" ? groups[0] : groups[1],
      dayUsed: of("POINTS_PER_DAY")?.used ?? Number.NaN,
      windowUsed: of("POINTS_PER_DATE_WINDOW")?.used ?? Number.NaN,
      reserved: of("POINTS_PER_DAY")?.reserved ?? Number.NaN,
      running: of("MAX_CONCURRENT_EXECUTION")?.reserved ?? Number.NaN,
    };
  });
}

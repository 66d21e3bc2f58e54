import { median } from "../fixture.ts";
import { run, type Server, treeCpuSeconds } from "./processes.ts";

export const seconds = 3;
const rounds = Number(process.env.ROUNDS ?? 3);
/** A service runs for days. In the first seconds of a process, V8 still compiles. */
const warmUpRounds = 4;

/** The work of a server per second of wall time, and per second of processor time. */
export interface Speed {
  readonly wall: number;
  /** Load, Redis and PostgreSQL share the other core, which may limit the wall figure but not this one. */
  readonly perCoreSecond: number;
  /** Counts the processor time of the other processes too. NaN without any. */
  readonly perCoreSecondOfAll: number;
  /** The 99th percentile of a unit of work in milliseconds. NaN when the load does not measure it. */
  readonly p99: number;
}

export interface Rival {
  readonly name: string;
  /** Runs the load once. Returns the amount of work and its duration in seconds. */
  readonly load: () => Promise<{ done: number; rate: number; p99?: number }>;
  /** Its processes are measured, workers included. Absent when no server is measured. */
  readonly server?: Server;
  /** Other processes whose processor time counts, such as PostgreSQL. */
  readonly otherPids?: readonly number[];
}

/** Returns medians of rounds in which the rivals alternate. */
export async function compare(rivals: readonly Rival[]): Promise<Map<string, Speed>> {
  const made = new Map(rivals.map(({ name }) => [name, [] as Speed[]]));
  for (let round = 0; round < warmUpRounds + rounds; round += 1) {
    for (const { name, load, server, otherPids = [] } of rivals) {
      const pids = server?.child.pid === undefined ? [] : [server.child.pid];
      const before = { server: treeCpuSeconds(pids), others: treeCpuSeconds(otherPids) };
      const { done, rate, p99 = Number.NaN } = await load();
      const used = treeCpuSeconds(pids) - before.server;
      const usedByOthers = treeCpuSeconds(otherPids) - before.others;
      const perCoreSecond = pids.length === 0 ? Number.NaN : done / used;
      const perCoreSecondOfAll = otherPids.length === 0 ? Number.NaN : done / (used + usedByOthers);
      if (round >= warmUpRounds) made.get(name)?.push({ wall: rate, perCoreSecond, perCoreSecondOfAll, p99 });
    }
  }
  const medianOf = (speeds: readonly Speed[], field: keyof Speed) => median(speeds.map((speed) => speed[field]));
  return new Map(
    [...made].map(([name, speeds]) => [
      name,
      {
        wall: medianOf(speeds, "wall"),
        perCoreSecond: medianOf(speeds, "perCoreSecond"),
        perCoreSecondOfAll: medianOf(speeds, "perCoreSecondOfAll"),
        p99: medianOf(speeds, "p99"),
      },
    ]),
  );
}

/** The load of load.ts. */
export async function load(kind: string, url: string, token: string, callers: number) {
  const script = new URL("load.ts", import.meta.url).pathname;
  const output = await run([
    process.execPath,
    // The threads of its collections would take turns with Redis and PostgreSQL on the same core.
    "--single-threaded-gc",
    "--import",
    "tsx",
    script,
    kind,
    url,
    token,
    String(seconds),
    String(callers),
  ]);
  return JSON.parse(output) as { done: number; rate: number; p50: number; p99: number; p999: number };
}

export async function wrk(url: string, parameters: readonly string[]): Promise<{ done: number; rate: number }> {
  const output = await run(["wrk", "-t1", "-c32", `-d${seconds}s`, ...parameters, url]);
  if (/Non-2xx|Socket errors/.test(output)) throw new Error(output);
  return {
    done: Number(/(\d+) requests in/.exec(output)?.[1]),
    rate: Number(/Requests\/sec: +([\d.]+)/.exec(output)?.[1]),
  };
}

export async function h2load(url: string, parameters: readonly string[]): Promise<{ done: number; rate: number }> {
  const output = await run(["h2load", "-t1", "-c4", "-m16", `-D${seconds}`, ...parameters, url]);
  const done = Number(/(\d+) succeeded/.exec(output)?.[1]);
  return { done, rate: done / seconds };
}

/** @param words a command, `__rand_int__` in it a number of twelve digits */
export async function redisBenchmark(redisUrl: string, words: readonly string[], pipeline: number) {
  const calls = pipeline === 1 ? 40_000 : 100_000;
  const output = await run([
    "redis-benchmark",
    "-p",
    new URL(redisUrl).port,
    "-c",
    pipeline === 1 ? "64" : "8",
    "-P",
    String(pipeline),
    "-n",
    String(calls),
    "-r",
    "1000000",
    "--csv",
    ...words,
  ]);
  const rate = Number(/","([\d.]+)",/.exec(output.trim().split("\n").at(-1) ?? "")?.[1]);
  return { done: calls, rate };
}

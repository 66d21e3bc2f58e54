import { median } from "../stand.ts";
import { cpuSeconds, run, type Server } from "./processes.ts";

export const seconds = 3;
const rounds = Number(process.env.ROUNDS ?? 3);

/** The work of a server per second of wall time, and per second of its own processor time. */
export interface Speed {
  readonly wall: number;
  /** Load, Redis and PostgreSQL share the other core, which may limit the wall figure but not this one. */
  readonly perCoreSecond: number;
}

export interface Rival {
  readonly name: string;
  /** Runs the load once. Returns the amount of work and its duration in seconds. */
  readonly load: () => Promise<{ done: number; rate: number }>;
  /** Absent when no server is measured. */
  readonly server?: Server;
}

/** Returns medians of rounds in which the rivals alternate. The first round warms up. */
export async function compare(rivals: readonly Rival[]): Promise<Map<string, Speed>> {
  const speeds = new Map(rivals.map(({ name }) => [name, { wall: [] as number[], perCoreSecond: [] as number[] }]));
  for (let round = 0; round <= rounds; round += 1) {
    for (const { name, load, server } of rivals) {
      const before = server === undefined ? 0 : cpuSeconds(server);
      const { done, rate } = await load();
      const used = server === undefined ? Number.NaN : cpuSeconds(server) - before;
      if (round === 0) continue;
      speeds.get(name)?.wall.push(rate);
      speeds.get(name)?.perCoreSecond.push(done / used);
    }
  }
  return new Map(
    [...speeds].map(([name, { wall, perCoreSecond }]) => [
      name,
      { wall: median(wall), perCoreSecond: median(perCoreSecond) },
    ]),
  );
}

/** The load of load.ts. */
export async function load(kind: string, url: string, token: string, callers: number) {
  const script = new URL("load.ts", import.meta.url).pathname;
  const output = await run([
    process.execPath,
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

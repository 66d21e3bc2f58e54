/**
 * The effect of slow work on decisions: the p99 of 500 acquires a second, idle and beside a report, a list of users and a
 * conversion, each alone and all at once, in one run. `npm run bench:bulk [users] [users of the report]`: 1,000,000 and
 * 2,000 (240,000 rows); `npm run bench:bulk 50000 500` takes three minutes. It needs redis-server, taskset and curl.
 * TREE names the folder of another tree that is built, to compare with.
 * The readers run at the lowest priority: in production they have machines of their own.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { openDatabase } from "../../src/postgres/database.ts";
import { freePort } from "../support/port.ts";
import { fillUsage, fillUsers, usagePeriod } from "./fill.ts";
import { median, seconds, timed } from "./fixture.ts";
import { startFixture } from "./rivals/fixture.ts";
import { load } from "./rivals/measure.ts";
import { cores } from "./rivals/processes.ts";

const [users = 1_000_000, reported = 2000] = process.argv.slice(2).map(Number);
const [days, methods] = [30, 4];
const rounds = Number(process.env.ROUNDS ?? 3);
const perSecond = 500;

if (process.env.TREE === undefined) execFileSync("npx", ["tsc", "-p", "tsconfig.build.json"], { stdio: "inherit" });
process.setMaxListeners(100);
const metricsPort = await freePort();
const fixture = await startFixture({ tree: process.env.TREE ?? "." });
// On any core: a conversion runs beside the server, as in production.
const server = await fixture.startService({ METRICS_PORT: String(metricsPort) }, "any");
try {
  const made = await timed(fill);
  console.log(`${users} users, ${reported * days * methods} rows of the report, made in ${seconds(made)}`);
  const converted = await upload();
  const work = {
    report: `/admin/report?${usagePeriod}`,
    list: "/admin/users?limit=10000000",
    conversion: `/admin/data/${converted}?data_flow_convert=XLSX`,
  };
  const phases = {
    idle: [],
    ...Object.fromEntries(Object.entries(work).map(([name, path]) => [name, [path]])),
    all: Object.values(work),
  };
  // The first calls are slow with any server, and a rate that it cannot serve yet would be refused.
  await load("grants", server.url, fixture.token, 8);
  const p99 = await measure(phases);
  const idle = p99.get("idle") ?? Number.NaN;
  for (const [name, value] of p99) console.log(`${name}: p99 ${value.toFixed(2)} ms = ×${(value / idle).toFixed(2)}`);
} finally {
  await server.stop();
  await fixture.stop();
}
process.exit(0);

async function fill(): Promise<void> {
  const url = fixture.environment.DATABASE_URL ?? "";
  const database = openDatabase({ url, poolSize: 1, statementTimeoutMs: 3_600_000 });
  await fillUsers(database, users);
  await fillUsage(database, { users: reported, days, methods });
  await database.destroy();
}

/** Stores JSON whose conversion takes seconds. Returns its tracecode. */
async function upload(): Promise<string> {
  const tracecode = randomUUID();
  const rows = Array.from({ length: 40_000 }, (_none, id) => ({ id, a: "x", b: id / 7, c: `y${id}`, d: true }));
  await fixture.send("PUT", `/admin/data/${tracecode}?username=user_1`, rows);
  return tracecode;
}

/** Returns the median p99 of each phase, in milliseconds. The phases alternate. */
async function measure(phases: Readonly<Record<string, readonly string[]>>): Promise<Map<string, number>> {
  const times = new Map<string, number[]>();
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, paths] of Object.entries(phases)) {
      const readers = paths.map(readRepeatedly);
      await longestDelay();
      const { p50, p99, p999 } = await load("latency", server.url, fixture.token, perSecond);
      const delay = await longestDelay();
      const read = await Promise.all(readers.map((stop) => stop()));
      times.set(name, [...(times.get(name) ?? []), p99]);
      const ms = [p50, p99, p999].map((value) => value.toFixed(2)).join(", ");
      console.log(
        `  ${name}: p50, p99, p99.9 ${ms} ms; event loop at most ${delay} ms late; read ${read.join(", ") || "nothing"}`,
      );
    }
  }
  return new Map([...times].map(([name, values]) => [name, median(values)]));
}

/**
 * Reads a path again and again. Returns a function that stops, and says how much was read. curl drops what it reads: to
 * read a list, this process would need 0.4 of a core, at the priority of the server.
 */
function readRepeatedly(path: string): () => Promise<string> {
  const startedMs = performance.now();
  const stopped = new AbortController();
  let bytes = 0;
  let child: ChildProcess | undefined;
  const reading = (async () => {
    while (!stopped.signal.aborted) {
      const header = `authorization: Bearer ${fixture.token}`;
      const curl = ["curl", "-sS", "--fail", "-H", header, "-o", "/dev/null", "-w", "%{size_download}"];
      child = spawn("taskset", ["-c", cores.others, "nice", "-n", "19", ...curl, `${server.url}${path}`], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      child.stdout?.on("data", (size) => (bytes += Number(size)));
      const [code] = await once(child, "close");
      if (code !== 0 && !stopped.signal.aborted) throw new Error(`${path} was not read: curl ended with ${code}`);
    }
  })();
  return async () => {
    stopped.abort();
    bytes += writtenBytes(child?.pid);
    child?.kill();
    await reading;
    return `${(bytes / 1e6 / ((performance.now() - startedMs) / 1000)).toFixed(1)} MB/s`;
  };
}

/** Returns the bytes that a process has written. 0 when it is gone. */
function writtenBytes(pid: number | undefined): number {
  try {
    return Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1]);
  } catch {
    return 0;
  }
}

/** Returns the longest delay of the event loop since the last call, in milliseconds. */
async function longestDelay(): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  const value = /^tollgate_event_loop_delay_seconds\{percentile="100"\} (\S+)$/m.exec(text)?.[1];
  return Math.round(Number(value) * 1000);
}

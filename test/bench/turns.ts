/**
 * How long bulk work holds the event loop: the 99th percentile and the longest of its turns, in processor time, while a report
 * and lists are read. `npm run bench:turns [users] [users of the report]`; the default 20000 and 300 take half a minute.
 * TREE names the folder of another tree that is built, to compare with. It needs redis-server, taskset and curl.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { openDatabase } from "../../src/postgres/database.ts";
import { fillUsage, fillUsers, usagePeriod } from "./fill.ts";
import { within } from "./fixture.ts";
import { startFixture } from "./rivals/fixture.ts";

const [users = 20_000, reported = 300] = process.argv.slice(2).map(Number);
const [days, methods] = [30, 4];
const hook = new URL("turn-times.mjs", import.meta.url).href;
const [report, list] = [`/admin/report?${usagePeriod}`, "/admin/users?limit=10000000"];
const work = { "a report": [report], "a list": [list], "a report and two lists": [report, list, list] };

if (process.env.TREE === undefined) execFileSync("npx", ["tsc", "-p", "tsconfig.build.json"], { stdio: "inherit" });
process.setMaxListeners(100);
const settings = { NODE_OPTIONS: `--import ${hook}` };
const fixture = await startFixture({ settings, tree: process.env.TREE ?? "." });
try {
  const url = fixture.environment.DATABASE_URL ?? "";
  const database = openDatabase({ url, poolSize: 1, statementTimeoutMs: 3_600_000 });
  await fillUsers(database, users);
  await fillUsage(database, { users: reported, days, methods });
  await database.destroy();
  for (const [name, paths] of Object.entries(work)) {
    // The first round warms up.
    await Promise.all(paths.map(read));
    const { count, totalMs, p99, max } = await measureTurns(() => Promise.all(paths.map(read)));
    const times = `p99 ${p99.toFixed(1)} ms, longest ${max.toFixed(1)} ms`;
    console.log(`${name}: ${count} turns in ${totalMs.toFixed(0)} ms of processor time; ${times}`);
  }
} finally {
  await fixture.stop();
}
process.exit(0);

async function read(path: string): Promise<void> {
  const header = `authorization: Bearer ${fixture.token}`;
  const curl = spawn("curl", ["-sS", "--fail", "-o", "/dev/null", "-H", header, `${fixture.server.url}${path}`]);
  const [code] = await once(curl, "close");
  if (code !== 0) throw new Error(`${path} was not read: curl ended with ${code}`);
}

interface Turns {
  readonly count: number;
  readonly totalMs: number;
  readonly p99: number;
  readonly max: number;
}

async function measureTurns(run: () => Promise<unknown>): Promise<Turns> {
  const { child } = fixture.server;
  child.kill("SIGUSR2");
  await run();
  const printed = new Promise<string>((resolve) => child.stdout?.once("data", (text) => resolve(String(text))));
  child.kill("SIGUSR2");
  return JSON.parse(await within(60_000, "the server prints its turns", printed)) as Turns;
}

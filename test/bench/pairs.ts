/**
 * Compares what an acquire and a settlement of 64 callers cost in this tree and in the last release: processor time of the
 * server and of PostgreSQL, and the latency of a settlement. Short rounds alternate. Run by hand: npm run bench:pairs, or
 * `-- FOLDER...` for other builds; USERS is the number of users. It needs redis-server and taskset.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AcquireQuotaResponseSchema, SettleLeaseRequestSchema } from "#gen/tollgate/v1/lease_pb.js";
import { buildRelease } from "../support/release.ts";
import { median, quantile } from "./fixture.ts";
import { acquisition, openQuotaCalls, quotaService } from "./rivals/calls.ts";
import { type Fixture, startFixture } from "./rivals/fixture.ts";
import { childrenOf, moveAside, threadNanos } from "./rivals/processes.ts";

const callers = 64;
/** Rounds have a number of pairs, not a time: a slow machine must not measure code that is not compiled yet. */
const pairsPerRound = Number(process.env.PAIRS ?? 1000);
const warmUpPairs = Number(process.env.WARM_UP ?? 20_000);
const rounds = Number(process.env.ROUNDS ?? 16);
const settings: Record<string, string> = process.env.LEVEL === undefined ? {} : { LOG_LEVEL: process.env.LEVEL };

interface Sample {
  readonly serverMicros: number;
  readonly postgresMicros: number;
  readonly p50: number;
  readonly p99: number;
}

const given = process.argv.slice(2);
if (given.length === 0) execFileSync("npx", ["tsc", "-p", "tsconfig.build.json"], { stdio: "inherit" });
const trees = given.length > 0 ? given : [await buildRelease(), "."];
process.setMaxListeners(100);
moveAside(process.pid);
const fixtures: Fixture[] = [];
try {
  for (const tree of trees) fixtures.push(await startFixture({ tree, settings }));
  const loads = await Promise.all(fixtures.map(openLoad));
  for (const load of loads) await load(warmUpPairs);
  const samples = trees.map((): Sample[] => []);
  for (let round = 0; round < rounds; round += 1) {
    for (const [index, load] of loads.entries()) samples[index]?.push(await load(pairsPerRound));
  }
  for (const [index, tree] of trees.entries()) print(tree, samples[index] ?? [], samples[0] ?? []);
} finally {
  for (const fixture of fixtures) await fixture.stop();
}
process.exit();

/** Returns a function that runs a number of pairs. */
async function openLoad({ server, token, postgresPid }: Fixture): Promise<(pairs: number) => Promise<Sample>> {
  const { connectionOf } = await openQuotaCalls(server.url, token);
  let latencies: number[] = [];
  const pair = async (caller: number) => {
    const connection = connectionOf(caller);
    const granted = await connection.unary(`${quotaService}/AcquireQuota`, acquisition());
    const { lease } = fromBinary(AcquireQuotaResponseSchema, granted);
    const settlement = create(SettleLeaseRequestSchema, { leaseId: lease?.leaseId ?? "", points: 3, outcome: 1 });
    const sent = performance.now();
    await connection.unary(`${quotaService}/SettleLease`, toBinary(SettleLeaseRequestSchema, settlement));
    latencies.push(performance.now() - sent);
  };
  const readNanos = () => ({ server: threadNanos(server.child.pid ?? 0), postgres: postgresNanos(postgresPid) });
  return async (pairs) => {
    latencies = [];
    let left = pairs;
    const before = readNanos();
    await Promise.all(
      Array.from({ length: callers }, async (_none, caller) => {
        while ((left -= 1) >= 0) await pair(caller);
      }),
    );
    const after = readNanos();
    return {
      serverMicros: (after.server - before.server) / 1000 / pairs,
      postgresMicros: (after.postgres - before.postgres) / 1000 / pairs,
      p50: median(latencies),
      p99: quantile(latencies, 0.99),
    };
  };
}

/** Returns the processor time of PostgreSQL, with that of its processes that have ended. */
function postgresNanos(pid: number): number {
  const ended = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ").slice(13, 15) ?? [];
  const endedNanos = ended.reduce((sum, ticks) => sum + Number(ticks), 0) * 1e7;
  return [pid, ...childrenOf(pid)].reduce((sum, process) => sum + nanosOf(process), endedNanos);
}

/** A process may end before it is read. */
function nanosOf(pid: number): number {
  try {
    return threadNanos(pid);
  } catch {
    return 0;
  }
}

function print(tree: string, samples: readonly Sample[], first: readonly Sample[]): void {
  const medianOf = (of: readonly Sample[], name: keyof Sample) => median(of.map((sample) => sample[name]));
  const columns = (["serverMicros", "postgresMicros", "p50", "p99"] as const).map((name) => {
    const value = medianOf(samples, name);
    return `${name} ${value.toFixed(name.startsWith("p9") || name === "p50" ? 2 : 0)} (${(value / medianOf(first, name)).toFixed(2)})`;
  });
  console.log(`${tree}: ${columns.join(", ")}`);
}

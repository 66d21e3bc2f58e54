/**
 * Compares the processor time of calls with that of the last release, row by row, in alternating rounds of one run. Fails when
 * a row costs ten percent more: it exits with 2. `npm run bench:guard` takes a minute and a half. It needs redis-server and
 * taskset.
 * A row whose rounds do not agree is not judged, and does not fail: the machine is too busy.
 */
import { execFileSync } from "node:child_process";
import { Agent, request as httpRequest } from "node:http";
import { availableParallelism } from "node:os";
import { buildRelease } from "../support/release.ts";
import { type Judgement, judge, maxRatio, maxUncertainty, type RoundCosts } from "./judge.ts";
import { batchSize, openQuotaCalls } from "./rivals/calls.ts";
import { runClosedLoop } from "./rivals/closed-loop.ts";
import { type Fixture, startFixture } from "./rivals/fixture.ts";
import { isInstalled, moveAside, threadNanos } from "./rivals/processes.ts";

/** Short rounds: the load of the machine by others changes over seconds. */
const rounds = 24;
const warmUpRounds = 4;
const roundSeconds = 0.25;
/** A machine on which this takes longer is too busy to judge the rest. */
const limitMs = 90_000;

type Work = (caller: number) => Promise<number>;
/** The work of a round of each row, and its number of callers. */
type Rows = Readonly<Record<string, { readonly work: Work; readonly callers: number }>>;

if (availableParallelism() < 2 || !["taskset", "redis-server"].every(isInstalled)) {
  console.log("not judged: the comparison needs Linux, two processors, taskset (util-linux) and redis-server");
  process.exit(0);
}
const release = await buildRelease();
execFileSync("npx", ["tsc", "-p", "tsconfig.build.json"], { stdio: "inherit" });
process.setMaxListeners(100);
// The load must not take the servers' core.
moveAside(process.pid);
const fixtures: Fixture[] = [];
const startedMs = performance.now();
const isLate = () => performance.now() - startedMs > limitMs;
try {
  for (const tree of [".", release]) fixtures.push(await startFixture({ tree }));
  const [ours, theirs] = (await Promise.all(fixtures.map(openRows))) as [Rows, Rows];
  const judgements: Judgement[] = [];
  for (const name of Object.keys(ours)) {
    if (isLate()) {
      console.log(`${name}: not judged, ${limitMs / 1000} seconds are over`);
      continue;
    }
    let judgement = judge(await compareRow(name, ours, theirs));
    // A second look: equal builds look different now and then.
    if (judgement.verdict !== "as fast" && !isLate()) judgement = judge(await compareRow(name, ours, theirs));
    judgements.push(judgement);
    print(name, judgement);
  }
  process.exitCode = judgements.some(({ verdict }) => verdict === "slower") ? 2 : 0;
} finally {
  for (const fixture of fixtures) await fixture.stop();
}
process.exit();

async function openRows({ server, token }: Fixture): Promise<Rows> {
  const quota = await openQuotaCalls(server.url, token);
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  const send = (method: string, path: string, body = ""): Promise<number> =>
    new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
      const request = httpRequest(`${server.url}${path}`, { method, agent, headers }, (response) => {
        response.resume().once("end", () => {
          if (response.statusCode === 200) resolve(1);
          else reject(new Error(`${path}: ${response.statusCode}`));
        });
      });
      request.once("error", reject).end(body);
    });
  const check = JSON.stringify({ username: "user_7", service: "UNIVERSAL", method_group: "PLAN", points: 3 });
  return {
    "acquire and settle": { work: quota.pair, callers: 64 },
    [`batch of ${batchSize} acquires`]: { work: quota.batch, callers: 4 },
    "quota check by the gateway": { work: () => send("POST", "/quota/leases:check", check), callers: 16 },
    "page of 50 users": { work: () => send("GET", "/admin/users?limit=50"), callers: 16 },
  };
}

/** Returns the costs of rounds in which both trees alternate. */
async function compareRow(name: string, ours: Rows, theirs: Rows): Promise<RoundCosts> {
  const costs = { ours: [] as number[], release: [] as number[] };
  for (let round = 0; round < warmUpRounds + rounds; round += 1) {
    for (const [index, key] of (["ours", "release"] as const).entries()) {
      const { work, callers } = (key === "ours" ? ours : theirs)[name] as Rows[string];
      const { server } = fixtures[index] as Fixture;
      const pid = server.child.pid ?? 0;
      const before = threadNanos(pid);
      const { done } = await runClosedLoop({ seconds: roundSeconds, callers }, work);
      if (round >= warmUpRounds) costs[key].push((threadNanos(pid) - before) / done);
    }
  }
  return costs;
}

function print(name: string, { verdict, ratio, uncertainty }: Judgement): void {
  const percent = (share: number) => `${(share * 100).toFixed(0)} %`;
  const text = {
    "as fast": "kept",
    slower: `SLOWER than the release by more than ${percent(maxRatio - 1)}`,
    unknown: `not judged: more than ${percent(maxUncertainty)} uncertain, the machine is busy`,
  };
  const factor = `${ratio.toFixed(2)} ± ${uncertainty.toFixed(2)}`;
  console.log(`${name}: ${factor} of the release's processor time, ${text[verdict]}`);
}

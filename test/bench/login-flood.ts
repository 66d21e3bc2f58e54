/**
 * The effect of a flood of logins on other callers: the p99 of cached decisions and of user reads, idle and with 8,000 logins
 * in flight, as ratios of one run. `npm run bench:logins [in flight] [seconds of a measurement]`; takes about a minute.
 * The flood is a process of the lowest priority. Its connections are open while the idle server is measured.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { type ClientHttp2Session, connect } from "node:http2";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as wait } from "node:timers/promises";
import { quantile, startFixture, within } from "./fixture.ts";

const flooderPath = "test/bench/login-flooder.ts";
const inFlight = Number(process.argv[2] ?? 8000);
const measureMs = Number(process.argv[3] ?? 10) * 1000;
/** The interval of decisions and of reads: long enough that an idle server answers each before the next. */
const everyMs = 10;
const floods = ["one address", "many addresses"] as const;
/** The longest that a call may take, or the flooder may be silent. */
const limitMs = 60_000;

interface Figures {
  readonly decisions: readonly number[];
  readonly reads: readonly number[];
  readonly failed: string;
}

for (const shape of floods) await measureFlood(shape);

async function measureFlood(shape: (typeof floods)[number]): Promise<void> {
  const proxies = shape === "one address" ? "0" : "1";
  const fixture = await startFixture({ TRUSTED_PROXIES: proxies, LOG_LEVEL: "info" });
  const caller = connect(fixture.server.url).on("error", () => undefined);
  const call = callWith(caller, fixture.token);
  let flooder: ChildProcess | undefined;
  try {
    await call("POST", "/admin/companies", { key: "bench" });
    await call("POST", "/admin/users", { username: "anna", company_key: "bench", roles: [] });
    await call("PUT", "/admin/quotas/anna", {
      services: [{ service: "ROUTING", methods: [{ method_group: "PLAN" }] }],
    });
    flooder = spawn(process.execPath, ["--import", "tsx", flooderPath, fixture.server.url, String(inFlight), shape]);
    flooder.stderr?.pipe(process.stderr);
    const progress = await followFlooder(flooder);
    await measure(call);
    const idle = await measure(call);
    const { before, after, burst, busy } = await underFlood(flooder, progress, () => measure(call));
    const perSecond = (total(after.answers) - total(before.answers)) / (measureMs / 1000);
    const behind = (fixture.server.output().match(/batch write interrupted|the ledger is behind/g) ?? []).length;
    console.log(`# ${inFlight} logins in flight from ${shape}`);
    console.log(
      `in flight ${after.sent - total(after.answers)}, answered ${Math.round(perSecond)}/s: ${JSON.stringify(after.answers)}`,
    );
    report("decisions", 2, idle.decisions, busy.decisions, burst.decisions);
    report("user reads", 5, idle.reads, busy.reads, burst.reads);
    console.log(
      `not answered well: idle ${idle.failed}, flooded ${busy.failed}; the ledger was behind ${behind} times (target: 0)`,
    );
    console.log(`memory of the server at its peak: ${fixture.memory("VmHWM")} MB`);
  } finally {
    flooder?.kill("SIGKILL");
    caller.destroy();
    await fixture.end();
  }
}

interface Progress {
  readonly sent: number;
  readonly answers: Record<string, number>;
}

/**
 * Waits until the flooder has opened its connections. Returns a function that gives its latest progress.
 * Call it in the turn that starts the flooder: a line without a listener is lost.
 */
async function followFlooder(flooder: ChildProcess): Promise<() => Progress> {
  let progress: Progress = { sent: 0, answers: {} };
  const lines = createInterface(flooder.stdout as Readable);
  const ready = new Promise<void>((done, fail) => {
    lines.once("line", () => {
      lines.on("line", (line) => (progress = JSON.parse(line) as Progress));
      done();
    });
    flooder.once("exit", (code) => fail(new Error(`the flooder has ended with ${code}`)));
  });
  await within(limitMs, "the flooder opens its connections", ready);
  return () => progress;
}

/** Measures while the first logins are being sent, and after all are sent. */
async function underFlood(flooder: ChildProcess, progress: () => Progress, work: () => Promise<Figures>) {
  flooder.stdin?.write("go\n");
  const burst = await work();
  const before = progress();
  const busy = await work();
  return { before, after: progress(), burst, busy };
}

function total(answers: Record<string, number>): number {
  return Object.values(answers).reduce((sum, count) => sum + count, 0);
}

type Call = (method: string, path: string, body?: object) => Promise<number>;

function callWith(session: ClientHttp2Session, token: string): Call {
  return (method, path, body) => {
    const answer = new Promise<number>((resolve, reject) => {
      const stream = session.request({
        ":method": method,
        ":path": path,
        ...(body && { "content-type": "application/json" }),
        authorization: `Bearer ${token}`,
      });
      let status = 0;
      stream.on("response", (headers) => (status = Number(headers[":status"])));
      stream.on("error", reject);
      stream.on("end", () => resolve(status)).resume();
      stream.on("close", () => reject(new Error(`${method} ${path}: the stream was closed without a response`)));
      stream.end(body && JSON.stringify(body));
    });
    return within(limitMs, `${method} ${path} is answered`, answer);
  };
}

/** The duration of each call in milliseconds, and the number of failed calls. */
async function measure(call: Call): Promise<Figures> {
  const times = { decisions: [] as number[], reads: [] as number[] };
  const failed: Record<string, number> = {};
  const pending: Promise<void>[] = [];
  const timed = async (list: number[], work: () => Promise<number>) => {
    const began = performance.now();
    const outcome = await work().catch((error: unknown) => String(error));
    list.push(performance.now() - began);
    if (typeof outcome === "string" || outcome >= 300) failed[outcome] = (failed[outcome] ?? 0) + 1;
  };
  const decide = () =>
    call("POST", "/quota/leases", {
      username: "anna",
      service: "ROUTING",
      method_group: "PLAN",
      points: 1,
      operation_id: randomUUID(),
    });
  const end = performance.now() + measureMs;
  while (performance.now() < end) {
    pending.push(
      timed(times.decisions, decide),
      timed(times.reads, () => call("GET", "/admin/users/anna")),
    );
    await wait(everyMs);
  }
  await Promise.all(pending);
  return { ...times, failed: JSON.stringify(failed) };
}

function report(
  name: string,
  target: number,
  idle: readonly number[],
  busy: readonly number[],
  burst: readonly number[],
): void {
  const ms = (times: readonly number[], part: number) => quantile(times, part).toFixed(1);
  const ratio = quantile(busy, 0.99) / quantile(idle, 0.99);
  console.log(
    `${name}: p50 ${ms(idle, 0.5)} → ${ms(busy, 0.5)} ms, p99 ${ms(idle, 0.99)} → ${ms(busy, 0.99)} ms = ×${ratio.toFixed(2)} ` +
      `(target: under ${target}); while the flood begins p50 ${ms(burst, 0.5)}, p99 ${ms(burst, 0.99)} ms`,
  );
}

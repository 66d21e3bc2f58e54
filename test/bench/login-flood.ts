/**
 * What a flood of logins does to everyone else: the p99 of cached decisions and of user reads, idle and with 8,000 logins
 * in flight from one address that is locked out, as ratios of one run. `npm run bench:logins`; takes about half a minute.
 */
import { randomUUID } from "node:crypto";
import { type ClientHttp2Session, connect } from "node:http2";
import { setTimeout as wait } from "node:timers/promises";
import { startStand } from "./stand.ts";

const inFlight = Number(process.argv[2] ?? 8000);
const sessionsOfFlood = 80;
const measureMs = Number(process.argv[3] ?? 5000);
/** A decision and a read each so often: little enough that an idle server answers each by itself. */
const everyMs = 10;

const stand = await startStand();
const sessions: ClientHttp2Session[] = [];

function open(): ClientHttp2Session {
  const session = connect(stand.server.url);
  session.on("error", () => undefined);
  sessions.push(session);
  return session;
}

function call(session: ClientHttp2Session, method: string, path: string, body?: object): Promise<number> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ":method": method,
      ":path": path,
      ...(body && { "content-type": "application/json" }),
      ...(path !== "/admin/token/generation" && { authorization: `Bearer ${stand.token}` }),
    });
    let status = 0;
    stream.on("response", (headers) => (status = Number(headers[":status"])));
    stream.on("error", reject);
    stream.on("end", () => resolve(status)).resume();
    stream.end(body && JSON.stringify(body));
  });
}

const caller = open();
await call(caller, "POST", "/admin/companies", { key: "bench" });
await call(caller, "POST", "/admin/users", { username: "anna", company_key: "bench", roles: [] });
await call(caller, "PUT", "/admin/quotas/anna", {
  services: [{ service: "ROUTING", methods: [{ method_group: "PLAN" }] }],
});

const decide = () =>
  call(caller, "POST", "/quota/leases", {
    username: "anna",
    service: "ROUTING",
    method_group: "PLAN",
    points: 1,
    operation_id: randomUUID(),
  });
const read = () => call(caller, "GET", "/admin/users/anna");

/** The p99 of a call in milliseconds, and how many were not answered well. */
async function measure(): Promise<{ decisions: number; reads: number; failed: string }> {
  const times = { decisions: [] as number[], reads: [] as number[] };
  const failed: Record<number, number> = {};
  const pending: Promise<void>[] = [];
  const timed = async (list: number[], work: () => Promise<number>) => {
    const began = performance.now();
    const status = await work();
    list.push(performance.now() - began);
    if (status >= 300) failed[status] = (failed[status] ?? 0) + 1;
  };
  const end = performance.now() + measureMs;
  while (performance.now() < end) {
    pending.push(timed(times.decisions, decide), timed(times.reads, read));
    await wait(everyMs);
  }
  await Promise.all(pending);
  return { decisions: p99(times.decisions), reads: p99(times.reads), failed: JSON.stringify(failed) };
}

function p99(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length * 0.99)] ?? Number.NaN;
}

const flooding = new AbortController();
const answers = new Map<number, number>();

async function flood(): Promise<void> {
  const floodSessions = Array.from({ length: sessionsOfFlood }, open);
  const one = async (session: ClientHttp2Session) => {
    while (!flooding.signal.aborted) {
      const body = { username: "anna", password: "wrong password" };
      const status = await call(session, "POST", "/admin/token/generation", body).catch(() => 0);
      answers.set(status, (answers.get(status) ?? 0) + 1);
    }
  };
  await Promise.all(
    floodSessions.flatMap((session) => Array.from({ length: inFlight / sessionsOfFlood }, () => one(session))),
  );
}

try {
  await measure();
  const idle = await measure();
  const flooded = flood();
  // The first burst is over when as many are answered as are in flight.
  while ([...answers.values()].reduce((sum, count) => sum + count, 0) < inFlight) await wait(100);
  const before = [...answers.values()].reduce((sum, count) => sum + count, 0);
  const busy = await measure();
  const perSecond = ([...answers.values()].reduce((sum, count) => sum + count, 0) - before) / (measureMs / 1000);
  flooding.abort();
  for (const session of sessions.slice(1)) session.destroy();
  await flooded;
  const ratio = (name: "decisions" | "reads") => (busy[name] / idle[name]).toFixed(2);
  const behind = (stand.server.output().match(/the ledger (cannot be written|is behind)/g) ?? []).length;
  console.log(`logins answered: ${Math.round(perSecond)}/s; ${JSON.stringify(Object.fromEntries(answers))}`);
  console.log(`decisions p99: idle ${idle.decisions.toFixed(1)} ms, flooded ×${ratio("decisions")} (target: under 2)`);
  console.log(`user reads p99: idle ${idle.reads.toFixed(1)} ms, flooded ×${ratio("reads")} (target: under 5)`);
  console.log(`failed: idle ${idle.failed}, flooded ${busy.failed}; the ledger was behind ${behind} times (target: 0)`);
} finally {
  for (const session of sessions) session.destroy();
  await stand.end();
}

/**
 * Sends calls whose bodies all differ, which h2load and wrk cannot do. Prints one line of JSON.
 * Arguments: kind, URL, token, seconds, and callers, or calls a second where the load does not wait for answers.
 */
import { Agent, request as httpRequest } from "node:http";
import { Redis } from "ioredis";
import { batchSize, openQuotaCalls, type QuotaCalls, quotaService, streamMessages } from "./calls.ts";
import { createClientPair } from "./client-pair.ts";
import { runClosedLoop } from "./closed-loop.ts";
import { users } from "./fixture.ts";

const [kind = "", url = "", token = "", secondsText, callersText] = process.argv.slice(2);
const [seconds, callers] = [Number(secondsText), Number(callersText)];
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
let calls = 0;

/** Sends messages on one stream, a hundred in flight. */
async function stream(quota: QuotaCalls, caller: number): Promise<number> {
  const end = performance.now() + seconds * 1000;
  let [answered, sent] = [0, 0];
  let rest: Buffer = Buffer.alloc(0);
  let finish: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const call = quota.connectionOf(caller).stream(`${quotaService}/AcquireQuotas`, (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    let at = 0;
    for (; rest.length >= at + 5 && rest.length >= at + 5 + rest.readUInt32BE(at + 1); answered += 1) {
      at += 5 + rest.readUInt32BE(at + 1);
    }
    rest = rest.subarray(at);
    if (answered < sent) return;
    if (performance.now() < end) send();
    else finish();
  });
  const send = () => {
    call.write(streamMessages());
    sent += batchSize;
  };
  send();
  // A stream that ends before all answers arrived was refused.
  await Promise.race([finished, call.ended]);
  if (answered < sent) throw new Error("the stream was refused");
  call.end();
  await call.ended;
  return answered;
}

function post(path: string, body: unknown): Promise<void> {
  const bytes = JSON.stringify(body);
  return new Promise((done, fail) => {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(bytes) };
    const sent = httpRequest(`${url}${path}`, { method: "POST", agent, headers }, (response) => {
      response.resume().once("end", () => (response.statusCode === 200 ? done() : fail(new Error(path))));
    });
    sent.once("error", fail).end(bytes);
  });
}

async function consume(): Promise<number> {
  const body = { key: `user_${(calls += 1) % users}`, points: 3 };
  await post("/consume", body);
  await post("/reward", body);
  return 1;
}

/**
 * Each worker process of a server takes some of the connections. The load at a rate does not wait for answers, however late
 * they are, and a connection may have a thousand open calls.
 */
const connections = ["latency", "steady"].includes(kind) ? 16 : Math.max(4, callers / 16);

async function closedLoop(work: (caller: number) => Promise<number>): Promise<void> {
  console.log(JSON.stringify(await runClosedLoop({ seconds, callers }, work)));
}

async function withQuota(run: (quota: QuotaCalls) => Promise<void>): Promise<void> {
  await run(await openQuotaCalls(url, token, connections));
}

/** The warm-up. V8 compiles the code of this process in its first seconds, and that delays calls to any server. */
const warmUpMs = 6000;

/** Sends calls at a rate without waiting for answers. Latency counts from the time a call was due. */
async function openLoop(rate: number, work: (call: number) => Promise<unknown>): Promise<void> {
  const latencies: number[] = [];
  const started = performance.now();
  const running: Promise<void>[] = [];
  const lastMs = warmUpMs + seconds * 1000;
  await new Promise<void>((done) => {
    const timer = setInterval(() => {
      const now = performance.now();
      while (running.length < ((now - started) / 1000) * rate) {
        const due = started + (running.length * 1000) / rate;
        const note = () => void (due - started >= warmUpMs && latencies.push(performance.now() - due));
        running.push(work(running.length).then(note));
      }
      if (now - started < lastMs) return;
      clearInterval(timer);
      done();
    }, 1);
  });
  await Promise.all(running);
  const sorted = latencies.toSorted((left, right) => left - right);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)];
  console.log(JSON.stringify({ done: running.length, rate, p50: at(0.5), p99: at(0.99), p999: at(0.999) }));
}

/** Runs the script itself: EVALSHA with the arguments that are passed instead of the token. */
function bareScript(): () => Promise<unknown> {
  const redis = new Redis(url);
  const [sha = "", ...rest] = JSON.parse(token) as string[];
  return () =>
    redis.evalsha(
      sha,
      ...(rest.map((argument) =>
        argument.replace("__rand_int__", String(Math.random()).slice(2, 14).padEnd(12, "0")),
      ) as [string]),
    );
}

const loads: Record<string, () => Promise<void>> = {
  pairs: () => withQuota((quota) => closedLoop(quota.pair)),
  grants: () => withQuota((quota) => closedLoop(quota.grant)),
  batch: () => withQuota((quota) => closedLoop(quota.batch)),
  stream: () => withQuota((quota) => closedLoop((caller) => stream(quota, caller))),
  consume: () => closedLoop(consume),
  client: () => closedLoop(createClientPair(url, token, false)),
  coalesced: () => closedLoop(createClientPair(url, token, true)),
  latency: () => withQuota((quota) => openLoop(callers, quota.grant)),
  steady: () => withQuota((quota) => openLoop(callers, quota.pair)),
  script: () => openLoop(callers, bareScript()),
};
const selected = loads[kind];
if (selected === undefined) throw new Error(`the load is ${kind}, and must be one of ${Object.keys(loads).join(", ")}`);
await selected();
process.exit(0);

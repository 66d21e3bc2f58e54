/**
 * A load of calls whose bodies all differ, which h2load and wrk cannot send. Prints one line of JSON.
 * Arguments: kind, URL, token, seconds, callers.
 */
import { randomUUID } from "node:crypto";
import { Agent, request as httpRequest } from "node:http";
import { type ClientHttp2Session, connect } from "node:http2";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { Redis } from "ioredis";
import {
  AcquireQuotaRequestSchema,
  AcquireQuotaResponseSchema,
  BatchAcquireQuotaRequestSchema,
  BatchAcquireQuotaResponseSchema,
  SettleLeaseRequestSchema,
} from "#gen/tollgate/v1/lease_pb.js";
import { users } from "./stand.ts";

const [kind = "", url = "", token = "", secondsText, callersText] = process.argv.slice(2);
const [seconds, callers] = [Number(secondsText), Number(callersText)];
const batchSize = 100;
const service = "/tollgate.v1.QuotaService";
const usesHttp2 = kind !== "consume" && kind !== "script";
const sessions: ClientHttp2Session[] = usesHttp2 ? Array.from({ length: 4 }, () => connect(url)) : [];
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
let calls = 0;

const asked = () => ({
  username: `user_${(calls += 1) % users}`,
  service: 1,
  methodGroup: 3,
  points: 3,
  operationId: randomUUID(),
  // None expires while it is measured.
  ttlSeconds: 3600,
});
const acquisition = () => toBinary(AcquireQuotaRequestSchema, create(AcquireQuotaRequestSchema, asked()));

function open(caller: number, path: string) {
  const session = sessions[caller % sessions.length] as ClientHttp2Session;
  return session.request({
    ":method": "POST",
    ":path": `${service}/${path}`,
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${token}`,
  });
}

/** A unary call. */
function grpc(caller: number, path: string, body: Uint8Array): Promise<Buffer> {
  const stream = open(caller, path);
  const chunks: Buffer[] = [];
  let status: unknown;
  return new Promise((done, fail) => {
    stream
      .on("data", (chunk) => chunks.push(chunk))
      .on("trailers", (trailers) => (status = trailers["grpc-status"]))
      .on("error", fail)
      .on("close", () =>
        status === "0" ? done(Buffer.concat(chunks).subarray(5)) : fail(new Error(`${path}: ${String(status)}`)),
      );
    stream.end(encodeEnvelope(0, body));
  });
}

async function pair(caller: number): Promise<number> {
  const answer = fromBinary(AcquireQuotaResponseSchema, await grpc(caller, "AcquireQuota", acquisition()));
  const settlement = create(SettleLeaseRequestSchema, { leaseId: answer.lease?.leaseId ?? "", points: 3, outcome: 1 });
  await grpc(caller, "SettleLease", toBinary(SettleLeaseRequestSchema, settlement));
  return 1;
}

async function grant(caller: number): Promise<number> {
  await grpc(caller, "AcquireQuota", acquisition());
  return 1;
}

async function batch(caller: number): Promise<number> {
  const requests = Array.from({ length: batchSize }, asked);
  const body = toBinary(BatchAcquireQuotaRequestSchema, create(BatchAcquireQuotaRequestSchema, { requests }));
  const answer = fromBinary(BatchAcquireQuotaResponseSchema, await grpc(caller, "BatchAcquireQuota", body));
  if (answer.decisions.some(({ decision }) => decision.case !== "granted")) throw new Error("a refusal");
  return batchSize;
}

/** Messages on one stream, a hundred on their way at a time. */
async function stream(caller: number): Promise<number> {
  const end = performance.now() + seconds * 1000;
  const call = open(caller, "AcquireQuotas");
  let [answered, sent] = [0, 0];
  let rest = Buffer.alloc(0);
  const send = () => {
    call.write(Buffer.concat(Array.from({ length: batchSize }, () => encodeEnvelope(0, acquisition()))));
    sent += batchSize;
  };
  await new Promise<void>((done, fail) => {
    call.on("error", fail).on("close", done);
    call.on("trailers", ({ "grpc-status": status }) => status !== "0" && fail(new Error(`stream: ${String(status)}`)));
    call.on("data", (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      let at = 0;
      for (; rest.length >= at + 5 && rest.length >= at + 5 + rest.readUInt32BE(at + 1); answered += 1) {
        at += 5 + rest.readUInt32BE(at + 1);
      }
      rest = rest.subarray(at);
      if (answered < sent) return;
      if (performance.now() < end) send();
      else call.end();
    });
    send();
  });
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

/** As many callers as asked for, each with one call at a time. */
async function closedLoop(work: (caller: number) => Promise<number>): Promise<void> {
  const started = performance.now();
  let done = 0;
  const caller = async (_none: unknown, index: number) => {
    while (performance.now() < started + seconds * 1000) {
      const more = await work(index);
      // Not in one line: what the others add during the wait would be lost.
      done += more;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  console.log(JSON.stringify({ done, rate: (done * 1000) / (performance.now() - started) }));
}

/** How long this process makes calls that do not count: its own first ones are slow, whomever it asks. */
const warmUpMs = 2000;

/** A thousand calls a second, whether or not they are answered; latency counts from when a call was due. */
async function openLoop(work: () => Promise<unknown>): Promise<void> {
  const rate = 1000;
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
        running.push(work().then(note));
      }
      if (now - started < lastMs) return;
      clearInterval(timer);
      done();
    }, 1);
  });
  await Promise.all(running);
  const sorted = latencies.toSorted((one, other) => one - other);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)];
  console.log(JSON.stringify({ done: sorted.length, p50: at(0.5), p99: at(0.99), p999: at(0.999) }));
}

/** The script by itself: EVALSHA with the arguments that stand in the token's place. */
function bareScript(): () => Promise<unknown> {
  const redis = new Redis(url);
  const [sha = "", ...rest] = JSON.parse(token) as string[];
  return () =>
    redis.evalsha(
      sha,
      ...(rest.map((one) => one.replace("__rand_int__", String(Math.random()).slice(2, 14).padEnd(12, "0"))) as [
        string,
      ]),
    );
}

const loads: Record<string, () => Promise<void>> = {
  pairs: () => closedLoop(pair),
  grants: () => closedLoop(grant),
  batch: () => closedLoop(batch),
  stream: () => closedLoop(stream),
  consume: () => closedLoop(consume),
  latency: () => openLoop(() => grant((calls += 1))),
  script: () => openLoop(bareScript()),
};
await loads[kind]?.();
process.exit(0);

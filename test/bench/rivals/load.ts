/**
 * Sends calls whose bodies all differ, which h2load and wrk cannot do. Prints one line of JSON.
 * Arguments: kind, URL, token, seconds, callers.
 */
import { randomUUID } from "node:crypto";
import { Agent, request as httpRequest } from "node:http";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { Redis } from "ioredis";
import {
  AcquireQuotaRequestSchema,
  AcquireQuotaResponseSchema,
  BatchAcquireQuotaResponseSchema,
  SettleLeaseRequestSchema,
} from "#gen/tollgate/v1/lease_pb.js";
import { median } from "../stand.ts";
import { createClientPair } from "./client-pair.ts";
import { type GrpcConnection, openGrpc } from "./grpc-client.ts";
import { users } from "./stand.ts";

const [kind = "", url = "", token = "", secondsText, callersText] = process.argv.slice(2);
const [seconds, callers] = [Number(secondsText), Number(callersText)];
const batchSize = 100;
const service = "/tollgate.v1.QuotaService";
const usesGrpc = !["consume", "script", "client", "coalesced"].includes(kind);
// The load does not wait for answers, however late they are, and a connection may have a thousand open calls.
const connectionCount = kind === "latency" ? 16 : 4;
const connections = usesGrpc
  ? await Promise.all(Array.from({ length: connectionCount }, () => openGrpc(url, token)))
  : [];
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
let calls = 0;

const placeholder = randomUUID();
/** The request of each user. The operation id is written into it. */
const acquisitions = Array.from({ length: users }, (_none, user) => {
  const request = {
    username: `user_${user}`,
    service: 1,
    methodGroup: 3,
    points: 3,
    operationId: placeholder,
    // No lease expires during the measurement.
    ttlSeconds: 3600,
  };
  return Buffer.from(toBinary(AcquireQuotaRequestSchema, create(AcquireQuotaRequestSchema, request)));
});

function acquisition(): Buffer {
  const message = Buffer.from(acquisitions[(calls += 1) % users] as Buffer);
  message.write(randomUUID(), message.indexOf(placeholder), "latin1");
  return message;
}

function connectionOf(caller: number): GrpcConnection {
  return connections[caller % connections.length] as GrpcConnection;
}

function grpc(caller: number, method: string, message: Uint8Array): Promise<Buffer> {
  return connectionOf(caller).unary(`${service}/${method}`, message);
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

/** Encodes a batch: field 1 of the message, repeated. */
function batchMessage(): Buffer {
  const parts = Array.from({ length: batchSize }, acquisition).flatMap((message) => [
    Buffer.from([0x0a, message.length]),
    message,
  ]);
  return Buffer.concat(parts);
}

async function batch(caller: number): Promise<number> {
  const answer = fromBinary(BatchAcquireQuotaResponseSchema, await grpc(caller, "BatchAcquireQuota", batchMessage()));
  if (answer.decisions.some(({ decision }) => decision.case !== "granted")) throw new Error("a refusal");
  return batchSize;
}

/** Sends messages on one stream, a hundred in flight. */
async function stream(caller: number): Promise<number> {
  const end = performance.now() + seconds * 1000;
  let [answered, sent] = [0, 0];
  let rest: Buffer = Buffer.alloc(0);
  let finish: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const call = connectionOf(caller).stream(`${service}/AcquireQuotas`, (chunk) => {
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
    call.write(Buffer.concat(Array.from({ length: batchSize }, () => encodeEnvelope(0, acquisition()))));
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

/** Runs the given number of callers, each with one call at a time. Prints the median time of a call as well. */
async function closedLoop(work: (caller: number) => Promise<number>): Promise<void> {
  const started = performance.now();
  const times: number[] = [];
  let done = 0;
  const caller = async (_none: unknown, index: number) => {
    while (performance.now() < started + seconds * 1000) {
      const sent = performance.now();
      const more = await work(index);
      times.push(performance.now() - sent);
      // Two statements: with one, additions of other callers during the await would be lost.
      done += more;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  const rate = (done * 1000) / (performance.now() - started);
  console.log(JSON.stringify({ done, rate, p50: median(times) }));
}

/** The warm-up: the first calls of this process are slow with any server. */
const warmUpMs = 2000;

/** Sends a thousand calls a second without waiting for answers. Latency counts from the time a call was due. */
async function openLoop(work: (call: number) => Promise<unknown>): Promise<void> {
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
  console.log(JSON.stringify({ done: sorted.length, p50: at(0.5), p99: at(0.99), p999: at(0.999) }));
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
  pairs: () => closedLoop(pair),
  grants: () => closedLoop(grant),
  batch: () => closedLoop(batch),
  stream: () => closedLoop(stream),
  consume: () => closedLoop(consume),
  client: () => closedLoop(createClientPair(url, token, false)),
  coalesced: () => closedLoop(createClientPair(url, token, true)),
  latency: () => openLoop((call) => grant(call)),
  script: () => openLoop(bareScript()),
};
const selected = loads[kind];
if (selected === undefined) throw new Error(`the load is ${kind}, and must be one of ${Object.keys(loads).join(", ")}`);
await selected();
process.exit(0);

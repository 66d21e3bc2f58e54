import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { Cluster, type Redis } from "ioredis";
import { createRoundTrips, measureRoundTrip, type RoundTrips } from "../../shared/measures.ts";
import type {
  CounterEngine,
  CounterRequest,
  Lease,
  LeaseState,
  LimitName,
  Meter,
  MeterState,
  Remembered,
  Reply,
  Rules,
} from "./engine.ts";
import { keysOf } from "./keys.ts";

export interface RedisEngineOptions {
  /** The time for tests, in milliseconds since the epoch. By default Redis' own clock decides, one for all servers. */
  readonly now?: (() => number) | undefined;
  readonly remember: Remembered;
  /** Counts the round trips. */
  readonly roundTrips?: RoundTrips | undefined;
}

/** The most leases of one call of prime.lua, so that no call blocks Redis for long. */
const primePart = 1000;

/** Creates counters in Redis, on a single server or a Cluster. */
export function createRedisEngine(
  redis: Redis | Cluster,
  { now, remember, roundTrips = createRoundTrips() }: RedisEngineOptions,
): CounterEngine {
  const meterScript = readScript("meter.lua");
  const primeScript = readScript("prime.lua");
  let generation = 0;
  let owner = "";

  function argumentsOf({ rules, command }: CounterRequest): (string | number)[] {
    const named = "operationId" in command ? command.operationId : "";
    const points = "points" in command ? command.points : 0;
    const ttlMs = "ttlMs" in command ? command.ttlMs : 0;
    const holder = "holder" in command ? command.holder : "";
    return [...head(command.kind, rules), named, points, ttlMs, holder];
  }

  function head(kind: string, { timezone, quotas }: Rules): (string | number)[] {
    return [
      kind,
      generation,
      timezone,
      now?.() ?? "",
      remember.ms,
      remember.operations,
      quotas.length,
      ...quotas.flatMap((quota) => [
        quota.period?.from ?? "",
        quota.period?.to ?? "",
        quota.pointsPerRequest ?? "",
        quota.pointsPerDay ?? "",
        quota.pointsPerDateWindow ?? "",
        quota.maxConcurrentExecution ?? "",
      ]),
    ];
  }

  const measure = <Result>(work: Promise<Result>) => measureRoundTrip(roundTrips, work);

  return {
    async run(requests) {
      const calls = requests.map((request) => ({ keys: keysOf(request.meter, owner), values: argumentsOf(request) }));
      const replies = await measure(runAll(redis, meterScript, calls));
      return replies.map((reply, index) => parseReply(reply as RawReply, (requests[index] as CounterRequest).rules));
    },

    async prime(meter, token, { day, timezone, window, dayUsed, windowUsed, leases }) {
      const final = keysOf(meter, owner);
      const keys = [...final, ...final.map((key) => `${key}:${randomUUID()}`)];
      const run = (kind: "part" | "last", own: readonly (string | number)[]) =>
        measure(runOne(redis, primeScript, { keys, values: [kind, generation, token, remember.ms, ...own] }));
      for (let start = 0; start < leases.length; start += primePart) {
        const part = leases.slice(start, start + primePart);
        await run(
          "part",
          part.flatMap((lease) => [lease.operationId, pack(lease), lease.endedMs ?? lease.expireMs]),
        );
      }
      await run("last", [timezone, day, window.from, window.to, dayUsed, windowUsed]);
    },

    async restore(meter: Meter, rules: Rules, lease: Lease) {
      const values = [...head("restore", rules), lease.operationId, 0, 0, pack(lease)];
      await measure(runOne(redis, meterScript, { keys: keysOf(meter, owner), values }));
    },

    async forget(meter) {
      await measure(redis.del(...keysOf(meter, owner)));
    },

    setGeneration(next, nextOwner = "") {
      generation = next;
      owner = nextOwner;
    },
  };
}

interface Script {
  readonly text: string;
  readonly sha: string;
}

interface Call {
  readonly keys: readonly string[];
  readonly values: readonly (string | number)[];
}

/** Reads a script from src, also when this file runs from dist: the compiler does not copy Lua files. */
function readScript(name: string): Script {
  const text = readFileSync(new URL(`../../../src/quotas/counters/${name}`, import.meta.url), "utf8");
  return { text, sha: createHash("sha1").update(text).digest("hex") };
}

/** Runs the calls in order, in one round trip. In a Cluster, calls to one node share a connection and keep their order. */
async function runAll(redis: Redis | Cluster, script: Script, calls: readonly Call[]): Promise<unknown[]> {
  if (calls.length === 1 || redis instanceof Cluster)
    return Promise.all(calls.map((call) => runOne(redis, script, call)));
  const pipeline = redis.pipeline();
  for (const { keys, values } of calls) pipeline.evalsha(script.sha, keys.length, ...keys, ...values);
  const results = (await pipeline.exec()) ?? [];
  return Promise.all(
    calls.map((call, index) => {
      const [error, reply] = results[index] ?? [new Error("no reply from Redis"), undefined];
      return error === null ? reply : loadAndRun(redis, script, call, error);
    }),
  );
}

async function runOne(redis: Redis | Cluster, script: Script, call: Call): Promise<unknown> {
  const { keys, values } = call;
  return redis
    .evalsha(script.sha, keys.length, ...keys, ...values)
    .catch((error: unknown) => loadAndRun(redis, script, call, error));
}

/** Sends the text of a script that Redis does not know: after a restart, or on a promoted replica. */
async function loadAndRun(redis: Redis | Cluster, { text }: Script, { keys, values }: Call, error: unknown) {
  if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
  return redis.eval(text, keys.length, ...keys, ...values);
}

type RawReply = [kind: string, ...rest: (string | number | string[])[]];

const stateLetters: Readonly<Record<string, LeaseState>> = { a: "active", e: "expired", r: "released", s: "settled" };

function parseReply(raw: RawReply, { quotas }: Rules): Reply {
  const number = (place: number) => Number(raw[place]);
  if (raw[0] === "missing") {
    const window = { from: number(4), to: number(5) };
    return { kind: "missing", token: String(raw[1]), nowMs: number(2), day: number(3), window };
  }
  if (raw[0] === "stale") return { kind: "stale", generation: number(1) };
  const meterState: MeterState = {
    nowMs: number(1),
    day: number(2),
    dayEndMs: number(3),
    window: { from: number(4), to: number(5) },
    windowEndMs: number(6),
    dayUsed: number(7),
    windowUsed: number(8),
    dayReserved: number(9),
    windowReserved: number(10),
    running: number(11),
    limits: quotas[number(12) - 1],
  };
  const before = stateLetters[raw[13] as string];
  const lease = raw[14] === "" ? undefined : unpack(raw[14] as string);
  const extra = raw[15] as string[];
  switch (raw[0]) {
    case "done":
      return { kind: "done", meterState, lease, before };
    case "refused":
      return { kind: "refused", meterState, lease, violated: extra as LimitName[] };
    case "conflict":
      return { kind: "conflict", meterState, lease: lease as Lease };
    case "leases":
      return { kind: "leases", meterState, leases: extra.map(unpack) };
    default:
      return { kind: "unknown", meterState };
  }
}

function pack({ state, day, timezone, points, grantedMs, expireMs, settledPoints, holder }: Lease): string {
  return `${state[0]} ${day} ${timezone} ${points} ${grantedMs} ${expireMs} ${settledPoints ?? "-"} ${state === "active" || state === "expired" ? holder : ""}`;
}

function unpack(text: string): Lease {
  const [operationId = "", state = "", day, timezone, points, grantedMs, expireMs, settled = "-", ...holder] =
    text.split(" ");
  return {
    operationId,
    state: stateLetters[state] as LeaseState,
    day: Number(day),
    timezone: Number(timezone),
    points: Number(points),
    grantedMs: Number(grantedMs),
    expireMs: Number(expireMs),
    settledPoints: settled === "-" ? undefined : Number(settled),
    holder: holder.join(" "),
  };
}

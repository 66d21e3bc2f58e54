import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { Cluster, type Redis } from "ioredis";
import { shareWrite } from "../../redis/share-write.ts";
import { createRoundTrips, measureRoundTrip, type RoundTrips } from "../../shared/measures.ts";
import type { CounterEngine, CounterRequest, Lease, Meter, Remembered, Reply, Rules } from "./engine.ts";
import { keysOf } from "./keys.ts";
import { createReplyReader, groupByMeter, type MeterGroup, packCommand, packLease, packQuotas } from "./meter-text.ts";

export interface RedisEngineOptions {
  /** The time for tests, in milliseconds since the epoch. By default Redis' own clock decides, one for all servers. */
  readonly now?: (() => number) | undefined;
  readonly remember: Remembered;
  /** Counts the round trips. */
  readonly roundTrips?: RoundTrips | undefined;
  /** Called with the meter of a settlement whose reply is lost: only Redis knows whether the settlement took effect. */
  readonly onLostSettlement?: ((meter: Meter) => void) | undefined;
}

/** The most leases of one call of prime.lua, so that no call blocks Redis for long. */
const primePart = 1000;

/** Creates counters in Redis, on a single server or a Cluster. */
export function createRedisEngine(
  redis: Redis | Cluster,
  { now, remember, roundTrips = createRoundTrips(), onLostSettlement = () => undefined }: RedisEngineOptions,
): CounterEngine {
  const meterScript = readScript("meter.lua");
  const primeScript = readScript("prime.lua");
  let generation = 0;
  let owner = "";

  /** Returns the call of a group. Its commands run in order. */
  function callOf({ meter, rules, commands }: MeterGroup): Call {
    const head = [
      generation,
      now?.() ?? "",
      remember.ms,
      remember.operations,
      rules.timezone,
      packQuotas(rules.quotas),
    ];
    return { keys: keysOf(meter, owner), values: [...head, ...commands] };
  }

  const measure = <Result>(work: Promise<Result>) => measureRoundTrip(roundTrips, work);

  async function runGroups(groups: readonly MeterGroup[], requests: readonly CounterRequest[]): Promise<unknown[]> {
    const isConnected = redis.status === "ready";
    let replies: readonly unknown[] = [];
    const runAndWait = async () => Promise.all((replies = await runAll(redis, meterScript, groups.map(callOf))));
    try {
      return await measure(runAndWait());
    } catch (error) {
      // Nothing was sent without a connection.
      if (isConnected) void reportLost(replies, groups, requests);
      throw error;
    }
  }

  /** Reports the settlements of a batch that has failed. The replies to its other meters are lost, too. */
  async function reportLost(
    replies: readonly unknown[],
    groups: readonly MeterGroup[],
    requests: readonly CounterRequest[],
  ): Promise<void> {
    const results = await Promise.allSettled(replies);
    for (const [place, { meter, indexes }] of groups.entries()) {
      // The error of a script is a reply: the script has changed nothing.
      if (isReplyError(results[place])) continue;
      if (indexes.some((index) => requests[index]?.command.kind === "settle")) onLostSettlement(meter);
    }
  }

  return {
    async run(requests) {
      const groups = groupByMeter(requests);
      shareWrite(redis);
      const answers = await runGroups(groups, requests);
      const replies: Reply[] = [];
      for (const [place, { rules, indexes }] of groups.entries()) {
        const read = createReplyReader(answers[place] as string[], rules);
        for (const [offset, index] of indexes.entries()) replies[index] = read(offset);
      }
      return replies;
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
          part.flatMap((lease) => [lease.operationId, packLease(lease), lease.endedMs ?? lease.expireMs]),
        );
      }
      await run("last", [timezone, day, window.from, window.to, dayUsed, windowUsed]);
    },

    async restore(meter: Meter, rules: Rules, lease: Lease) {
      const restore = packCommand({ kind: "restore", operationId: lease.operationId, holder: packLease(lease) });
      await measure(runOne(redis, meterScript, callOf({ meter, rules, commands: [restore], indexes: [] })));
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

function isReplyError(result: PromiseSettledResult<unknown> | undefined): boolean {
  return result?.status === "rejected" && result.reason instanceof Error && result.reason.name === "ReplyError";
}

/**
 * Runs the calls in order, in one round trip. In a Cluster, calls to one node share a connection and keep their order.
 * @returns the reply to each call, or a promise of it
 */
async function runAll(redis: Redis | Cluster, script: Script, calls: readonly Call[]): Promise<readonly unknown[]> {
  if (calls.length === 1 || redis instanceof Cluster) return calls.map((call) => runOne(redis, script, call));
  const pipeline = redis.pipeline();
  for (const { keys, values } of calls) pipeline.evalsha(script.sha, keys.length, ...keys, ...values);
  const results = (await pipeline.exec()) ?? [];
  return calls.map((call, index) => {
    const [error, reply] = results[index] ?? [new Error("no reply from Redis"), undefined];
    return error === null ? reply : loadAndRun(redis, script, call, error);
  });
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

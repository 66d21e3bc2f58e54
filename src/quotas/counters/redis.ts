import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { Cluster, type Redis, type Result } from "ioredis";
import { inOneWrite } from "../../redis/in-one-write.ts";
import { addRoundTrip, createRoundTrips, measureRoundTrip, type RoundTrips } from "../../shared/measures.ts";
import type { CounterEngine, CounterRequest, Lease, Meter, Remembered, Reply, Rules } from "./engine.ts";
import { keysOf } from "./keys.ts";
import {
  createReplyReader,
  groupByMeter,
  type MeterGroup,
  maxCommands,
  packCommand,
  packLease,
  packQuotas,
} from "./meter-text.ts";

declare module "ioredis" {
  interface RedisCommander<Context> {
    /** Runs meter.lua. */
    runMeters(keyCount: number, ...keysAndValues: (string | number)[]): Result<(string[] | Error)[], Context>;
    /** Runs prime.lua. */
    primeMeter(keyCount: number, ...keysAndValues: (string | number)[]): Result<number, Context>;
  }
}

export interface RedisEngineOptions {
  /** The time for tests, in milliseconds since the epoch. By default Redis' own clock decides, one for all servers. */
  readonly now?: (() => number) | undefined;
  readonly remember: Remembered;
  /** Counts the round trips. */
  readonly roundTrips?: RoundTrips | undefined;
  /** Called with the meter of a settlement whose reply is lost: only Redis knows whether the settlement took effect. */
  readonly onLostSettlement?: ((meter: Meter) => void) | undefined;
}

/** A reply to each request, or an error. */
interface Decided {
  readonly replies: readonly (Reply | Error)[];
  /** Whether Redis was connected when the requests were sent. */
  readonly isConnected: boolean;
}

/** Requests that leave in one turn of the event loop. Redis serves up to a hundred in one call of the script. */
interface Batch {
  readonly requests: CounterRequest[];
  readonly answer: (decided: Promise<Decided>) => void;
  readonly decided: Promise<Decided>;
}

/** The most leases of one call of prime.lua, so that no call blocks Redis for long. */
const primePart = 1000;

/** Creates counters in Redis, on a single server or a Cluster. */
export function createRedisEngine(
  redis: Redis | Cluster,
  { now, remember, roundTrips = createRoundTrips(), onLostSettlement = () => undefined }: RedisEngineOptions,
): CounterEngine {
  redis.defineCommand("runMeters", { lua: readScript("meter.lua") });
  redis.defineCommand("primeMeter", { lua: readScript("prime.lua") });
  let generation = 0;
  let owner = "";

  /** Serves groups in one call of the script. Returns the answer to each group, or the error of that group. */
  async function runMeters(groups: readonly MeterGroup[]): Promise<(string[] | Error)[]> {
    const keys = groups.flatMap(({ meter }) => keysOf(meter, owner));
    const ofGroup = ({ rules: { timezone, quotas }, commands }: MeterGroup) => [
      timezone,
      packQuotas(quotas),
      commands.length,
      ...commands,
    ];
    const head = [generation, now?.() ?? "", remember.ms, remember.operations];
    return redis.runMeters(keys.length, ...keys, ...head, ...groups.flatMap(ofGroup));
  }

  const measure = <Value>(work: Promise<Value>) => measureRoundTrip(roundTrips, work);

  /** Whether a call may have keys of several slots. */
  let canMixSlots = !(redis instanceof Cluster);

  /** Serves groups in one call, or in a call each. Returns an answer or an error for each group. */
  async function runPart(part: readonly MeterGroup[]): Promise<(string[] | Error)[]> {
    try {
      return await runMeters(part);
    } catch (error) {
      // One address may stand for a cluster, which runs nothing of such a call.
      if (part.length === 1 || !refusesSlots(error as Error)) return part.map(() => error as Error);
      canMixSlots = false;
      return (await Promise.all(part.map((group) => runPart([group])))).flat();
    }
  }

  /** Returns a reply to each request, or the error of its group. */
  async function decide(requests: readonly CounterRequest[]): Promise<Decided> {
    const isConnected = redis.status === "ready";
    const startedMs = performance.now();
    const groups = groupByMeter(requests);
    const parts = partsOf(groups, canMixSlots ? maxCommands : 1);
    const answers = (await Promise.all(parts.map(runPart))).flat();
    addRoundTrip(roundTrips, startedMs, answers.some(isError));
    const replies: (Reply | Error)[] = [];
    for (const [place, { rules, indexes }] of groups.entries()) {
      const answer = answers[place] as string[] | Error;
      const read = isError(answer) ? () => answer : createReplyReader(answer, rules);
      for (const [offset, index] of indexes.entries()) replies[index] = read(offset);
    }
    return { replies, isConnected };
  }

  /** The batches of this turn of the event loop. */
  let batches: Batch[] = [];

  function sendAll(): void {
    const sent = batches;
    batches = [];
    inOneWrite(redis, () => {
      for (const { requests, answer } of sent) answer(decide(requests));
    });
  }

  /** Returns a batch of this turn with room for so many more requests. */
  function batchFor(count: number): Batch {
    const last = batches.at(-1);
    // A node of a Cluster that does not answer holds up the calls to it alone.
    const isShared = last !== undefined && canMixSlots && last.requests.length + count <= maxCommands;
    if (isShared) return last;
    let answer: Batch["answer"] = () => undefined;
    const decided = new Promise<Decided>((resolve) => (answer = resolve));
    const batch = { requests: [], answer, decided };
    if (batches.push(batch) === 1) setImmediate(sendAll);
    return batch;
  }

  return {
    async run(requests) {
      if (requests.length === 0) return [];
      const batch = batchFor(requests.length);
      const start = batch.requests.length;
      for (const request of requests) batch.requests.push(request);
      const { replies, isConnected } = await batch.decided;
      const own = replies.slice(start, start + requests.length);
      const error = own.find(isError);
      if (error === undefined) return own as Reply[];
      // The replies to the other requests are lost with this one. Nothing was sent without a connection.
      for (const [place, { meter, command }] of requests.entries()) {
        if (isConnected && command.kind === "settle" && !isReplyError(own[place])) onLostSettlement(meter);
      }
      throw error;
    },

    async prime(meter, token, { day, timezone, window, dayUsed, windowUsed, leases }) {
      const final = keysOf(meter, owner);
      const keys = [...final, ...final.map((key) => `${key}:${randomUUID()}`)];
      const run = (kind: "part" | "last", own: readonly (string | number)[]) =>
        measure(redis.primeMeter(keys.length, ...keys, kind, generation, token, remember.ms, ...own));
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
      const run = async () => {
        const [answer] = await runMeters([{ meter, rules, commands: [restore], indexes: [] }]);
        if (isError(answer)) throw answer;
      };
      await measure(run());
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

/** Reads a script from src, also when this file runs from dist: the compiler does not copy Lua files. */
function readScript(name: string): string {
  return readFileSync(new URL(`../../../src/quotas/counters/${name}`, import.meta.url), "utf8");
}

function isError(value: unknown): value is Error {
  return value instanceof Error;
}

/** Whether Redis has answered with an error, and has charged nothing. */
function isReplyError(value: unknown): boolean {
  return value instanceof Error && value.name === "ReplyError";
}

/** Whether a cluster refuses keys of several slots. Proxies of clusters have texts of their own. */
function refusesSlots({ message }: Error): boolean {
  return /cross-?slot|same slot/i.test(message);
}

/** Splits groups, in order, into calls of at most so many commands, or of one group. */
function partsOf(groups: readonly MeterGroup[], most: number): MeterGroup[][] {
  const parts: MeterGroup[][] = [];
  let room = 0;
  for (const group of groups) {
    room -= group.commands.length;
    if (room < 0) {
      parts.push([]);
      room = most - group.commands.length;
    }
    parts.at(-1)?.push(group);
  }
  return parts;
}

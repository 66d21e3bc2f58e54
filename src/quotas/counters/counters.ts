import { ConnectError } from "@connectrpc/connect";
import pLimit from "p-limit";
import type { Day } from "../../shared/calendar.ts";
import { unavailable } from "../../shared/errors.ts";
import { trace } from "../../shared/tracing.ts";
import type { CounterEngine, CounterRequest, Lease, Meter, Missing, Reply, Rules, Snapshot } from "./engine.ts";

/** A reply of present counters. `degraded` marks a reply of this server's own counters in fail-open. */
export type Answer = Exclude<Reply, { kind: "missing" | "stale" }> & { readonly degraded?: boolean };

export interface Counters {
  /**
   * Returns one answer for each request, in order. Missing counters are rebuilt from the ledger first.
   * @param onAnswer called with each answer as soon as the engine gives it; others of the batch may still wait
   * @throws UNAVAILABLE when the engine, or the ledger for a rebuild, does not answer
   */
  execute(requests: readonly CounterRequest[], onAnswer?: OnAnswer): Promise<Answer[]>;
  /** Drops a meter that may be wrong. The next request rebuilds it. */
  forget(meter: Meter): Promise<void>;
}

/** @param sentMs when the request was sent, by performance.now(): the engine decided after it */
export type OnAnswer = (answer: Answer, index: number, sentMs: number) => void;

export interface CountersOptions {
  readonly engine: CounterEngine;
  /** Resolves when every server has flushed its queue. Called before the ledger is read. */
  readonly flush?: () => Promise<unknown>;
  /** Reads what the ledger holds of a meter. */
  readonly readSnapshot: (meter: Meter, missing: Missing, rules: Rules) => Promise<Snapshot>;
  /** Finds a lease in the ledger that the engine does not know. */
  readonly findLease: (meter: Meter, operationId: string, day: Day) => Promise<Lease | undefined>;
  /** Counts what is rebuilt. */
  readonly rebuilds?: Rebuilds;
}

/** How often counters were rebuilt from the ledger. */
export interface Rebuilds {
  /** Missing meters that were primed. */
  primes: number;
  /** Unknown leases that were restored. */
  restores: number;
}

/** A request may find its meter stale, lost again after the prime, and past the end of its day. More retries mean a bug. */
const attempts = 4;
/** The most snapshots read at once, so that other work finds connections to PostgreSQL when all counters are lost. */
const maxReads = 4;
const retryAfterMs = 1000;

/** Creates counters that survive the loss of the engine's memory: missing meters are primed from the ledger. */
export function createCounters(options: CountersOptions): Counters {
  const { engine, flush = async () => undefined, readSnapshot, findLease } = options;
  const rebuilds = options.rebuilds ?? { primes: 0, restores: 0 };
  const priming = new Map<string, Promise<void>>();
  const reading = pLimit(maxReads);

  /** @throws UNAVAILABLE for every fault of the engine, on which fail-open begins */
  async function fromEngine<Result>(work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof ConnectError) throw error;
      throw unavailable("COUNTERS_UNAVAILABLE", "the counters do not answer now", retryAfterMs, error);
    }
  }

  function run(requests: readonly CounterRequest[]): Promise<Reply[]> {
    const run = () => fromEngine(engine.run(requests));
    return trace("decide quotas", { "tollgate.requests": requests.length }, run);
  }

  /** Primes a meter. Concurrent calls read the ledger once. */
  function prime({ meter, rules }: CounterRequest, missing: Missing): Promise<void> {
    const { userId, service, methodGroup } = meter;
    const { token, day, window } = missing;
    const key = [userId, service, methodGroup, token, day, window.from, window.to].join("/");
    const running =
      priming.get(key) ??
      // A missing meter grants nothing until its prime, so the flush stays valid however long the read waits.
      flush()
        .then(() => reading(() => readSnapshot(meter, missing, rules)))
        .then((snapshot) => fromEngine(engine.prime(meter, token, snapshot)))
        .then(() => void (rebuilds.primes += 1))
        .finally(() => priming.delete(key));
    priming.set(key, running);
    return running;
  }

  async function restore(request: CounterRequest): Promise<boolean> {
    const { meter, rules, command } = request;
    if (!("day" in command)) return false;
    await flush();
    const lease = (await findLease(meter, command.operationId, command.day)) ?? command.proof;
    if (lease === undefined) return false;
    await fromEngine(engine.restore(meter, rules, lease));
    rebuilds.restores += 1;
    return true;
  }

  return {
    async execute(requests, onAnswer) {
      let sentMs = performance.now();
      const replies = await run(requests);
      const report = (reply: Reply, index: number) => {
        if (isAnswer(reply)) onAnswer?.(reply, index, sentMs);
      };
      replies.forEach(report);
      for (let attempt = 1; ; attempt += 1) {
        const retried = await recoverAll(requests, replies);
        if (retried.length === 0) return replies as Answer[];
        if (attempt === attempts)
          throw unavailable("COUNTERS_UNAVAILABLE", "the counters are being rebuilt", retryAfterMs);
        sentMs = performance.now();
        const renewed = await run(retried.map((index) => requests[index] as CounterRequest));
        for (const [place, index] of retried.entries()) {
          replies[index] = renewed[place] as Reply;
          report(replies[index], index);
        }
      }
    },
    forget: (meter) => fromEngine(engine.forget(meter)),
  };

  /** Returns the indexes of requests to retry. */
  async function recoverAll(requests: readonly CounterRequest[], replies: readonly Reply[]): Promise<number[]> {
    if (replies.every(isAnswer)) return [];
    const open = [...replies.keys()].filter((index) => !isAnswer(replies[index] as Reply));
    const isAgain = await Promise.all(
      open.map((index) => recover(requests[index] as CounterRequest, replies[index] as Reply)),
    );
    return open.filter((_index, place) => isAgain[place]);
  }

  /** Recovers from a reply without an answer. Returns whether to retry the request. */
  async function recover(request: CounterRequest, reply: Reply): Promise<boolean> {
    if (reply.kind === "missing") {
      await prime(request, reply);
      return true;
    }
    if (reply.kind === "stale") return true;
    // A restored lease is unknown again if the meter was lost and primed by another call meanwhile.
    return reply.kind === "unknown" && restore(request);
  }
}

function isAnswer(reply: Reply): reply is Exclude<Reply, { kind: "missing" | "stale" | "unknown" }> {
  return reply.kind !== "missing" && reply.kind !== "stale" && reply.kind !== "unknown";
}

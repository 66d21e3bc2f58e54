import { ConnectError } from "@connectrpc/connect";
import pLimit from "p-limit";
import { unavailable } from "../../shared/errors.ts";
import type { CounterEngine, CounterRequest, Day, Lease, Meter, Missing, Reply, Rules, Snapshot } from "./engine.ts";

/** A reply of counters that are there. `degraded`: of this server's own, while those of all servers are out of reach. */
export type Answer = Exclude<Reply, { kind: "missing" | "stale" }> & { readonly degraded?: boolean };

export interface Counters {
  /**
   * One answer for each ask, in order. Counters that are missing are made again from the ledger first.
   * @param hear called with each answer when the engine gives it, while others of the batch may have to wait
   * @throws UNAVAILABLE when the engine, or the ledger where it is needed, does not answer
   */
  execute(asks: readonly CounterRequest[], onAnswer?: OnAnswer): Promise<Answer[]>;
  /** Drops a meter that the ledger contradicts: the next ask makes it again from the ledger. */
  forget(meter: Meter): Promise<void>;
}

/** @param askedMs when the engine was asked, by performance.now(): it has not decided before */
export type OnAnswer = (answer: Answer, index: number, askedMs: number) => void;

export interface CountersOptions {
  readonly engine: CounterEngine;
  /** Resolves when every server has written what it holds; called before the ledger is read. */
  readonly flush?: () => Promise<void>;
  /** What the ledger knows. */
  readonly readSnapshot: (meter: Meter, missing: Missing, rules: Rules) => Promise<Snapshot>;
  /** A lease that the engine does not know. */
  readonly findLease: (meter: Meter, operationId: string, day: Day) => Promise<Lease | undefined>;
}

/** Each of: stale, primed and lost again meanwhile, the day over before it was used. More means that something is broken. */
const attempts = 4;
/** Snapshots that are read at once: when all counters are lost, other work finds connections to PostgreSQL. */
const maxReads = 4;
const retryAfterMs = 1000;

/** What the service asks of the counters, whatever becomes of the engine's memory. */
export function createCounters(options: CountersOptions): Counters {
  const { engine, flush = async () => undefined, readSnapshot, findLease } = options;
  const priming = new Map<string, Promise<void>>();
  const reading = pLimit(maxReads);

  /** @throws UNAVAILABLE for every fault of the engine: fail-open counts without it then. */
  async function fromEngine<Result>(work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof ConnectError) throw error;
      throw unavailable("COUNTERS_UNAVAILABLE", "the counters do not answer now", retryAfterMs, error);
    }
  }

  function run(asks: readonly CounterRequest[]): Promise<Reply[]> {
    return fromEngine(engine.run(asks));
  }

  /** However many find a meter missing at once, the ledger is read once. */
  function prime({ meter, rules }: CounterRequest, missing: Missing): Promise<void> {
    const { userId, service, methodGroup } = meter;
    const { token, day, window } = missing;
    const key = [userId, service, methodGroup, token, day, window.from, window.to].join("/");
    const running =
      priming.get(key) ??
      // Nothing is granted from the missing reply to the prime: the flush holds however long the read has to wait.
      flush()
        .then(() => reading(() => readSnapshot(meter, missing, rules)))
        .then((snapshot) => fromEngine(engine.prime(meter, token, snapshot)))
        .finally(() => priming.delete(key));
    priming.set(key, running);
    return running;
  }

  async function restore(ask: CounterRequest): Promise<boolean> {
    const { meter, rules, command } = ask;
    if (!("day" in command)) return false;
    await flush();
    const lease = (await findLease(meter, command.operationId, command.day)) ?? command.proof;
    if (lease === undefined) return false;
    await fromEngine(engine.restore(meter, rules, lease));
    return true;
  }

  return {
    async execute(asks, onAnswer) {
      let askedMs = performance.now();
      const replies = await run(asks);
      const tell = (reply: Reply, index: number) => {
        if (isAnswer(reply)) onAnswer?.(reply, index, askedMs);
      };
      replies.forEach(tell);
      for (let attempt = 1; ; attempt += 1) {
        const again = await recoverAll(asks, replies);
        if (again.length === 0) return replies as Answer[];
        if (attempt === attempts)
          throw unavailable("COUNTERS_UNAVAILABLE", "the counters are being made again", retryAfterMs);
        askedMs = performance.now();
        const renewed = await run(again.map((index) => asks[index] as CounterRequest));
        for (const [place, index] of again.entries()) {
          replies[index] = renewed[place] as Reply;
          tell(replies[index], index);
        }
      }
    },
    forget: (meter) => fromEngine(engine.forget(meter)),
  };

  /** The places of those that are worth asking again. */
  async function recoverAll(asks: readonly CounterRequest[], replies: readonly Reply[]): Promise<number[]> {
    if (replies.every(isAnswer)) return [];
    const open = [...replies.keys()].filter((index) => !isAnswer(replies[index] as Reply));
    const isAgain = await Promise.all(
      open.map((index) => recover(asks[index] as CounterRequest, replies[index] as Reply)),
    );
    return open.filter((_index, place) => isAgain[place]);
  }

  /** Whether it is worth asking again. */
  async function recover(ask: CounterRequest, reply: Reply): Promise<boolean> {
    if (reply.kind === "missing") {
      await prime(ask, reply);
      return true;
    }
    if (reply.kind === "stale") return true;
    // A lease that was restored is unknown again when the meter was lost and primed by another call meanwhile.
    return reply.kind === "unknown" && restore(ask);
  }
}

function isAnswer(reply: Reply): reply is Exclude<Reply, { kind: "missing" | "stale" | "unknown" }> {
  return reply.kind !== "missing" && reply.kind !== "stale" && reply.kind !== "unknown";
}

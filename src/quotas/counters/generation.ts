import { setImmediate as nextTurn } from "node:timers/promises";
import { Cluster, type Redis } from "ioredis";
import type { Logger } from "pino";
import type { Database } from "../../postgres/database.ts";
import type { CounterEngine } from "./engine.ts";

export interface GuardOptions {
  readonly redis: Redis | Cluster;
  readonly engine: CounterEngine;
  readonly database: Database;
  readonly logger: Logger;
}

/** Counters that several servers share. */
export interface SharedEngine extends CounterEngine {
  /** Resolves when Redis answers. */
  ping(): Promise<void>;
  /** Another server says that there may be a new generation. */
  invalidateGeneration(): void;
  /** The generation that all servers count in, as PostgreSQL has it; 0 before the first one. */
  readGeneration(): Promise<number>;
  /**
   * Counters of this generation are not trusted any more: every server counts again from the
   * ledger. Does nothing more when another server has raised the generation since.
   */
  raiseGeneration(from: number): Promise<void>;
  /** Resolves when what Redis has been asked by now is answered, and the answers have been acted upon. */
  drainReplies(): Promise<void>;
}

/**
 * Looks at every connection which Redis it has reached, before anything is asked there: one that was started anew, or
 * a replica that took over, may hold less than what was acknowledged. All servers agree on it through PostgreSQL, and
 * the counters themselves refuse a server that does not know it yet.
 */
export function guardGeneration({ redis, engine, database, logger }: GuardOptions): SharedEngine {
  let verified: Promise<void> | undefined;
  /** The highest generation that was seen anywhere: a restored PostgreSQL may know less than Redis. */
  let latest = 0;
  const running = new Set<Promise<unknown>>();
  const invalidateGeneration = () => {
    verified = undefined;
  };
  onOtherServers(redis, invalidateGeneration);

  /** @param from the generation that ends, even in the same Redis */
  async function verify(from: number | undefined): Promise<void> {
    const runId = await readRunIds(redis);
    const { rows } = await database.raw<{ rows: { generation: number; owner: string }[] }>(
      `insert into counter_store as kept (run_id, generation) values (:runId, greatest(1, :latest::bigint))
       on conflict (id) do update set run_id = excluded.run_id, generation = greatest(:latest::bigint,
         kept.generation
           + case when kept.run_id = excluded.run_id and kept.generation is distinct from :from::bigint then 0 else 1 end)
       -- A copy of the database within one server has its identity, and another oid.
       returning generation, left(md5(identity::text || (
         select oid from pg_database where datname = current_database()
       )), 12) as owner`,
      { runId, from: from ?? null, latest },
    );
    latest = Math.max(latest, rows[0]?.generation ?? 0);
    engine.setGeneration(latest, rows[0]?.owner);
    logger.info({ runId, generation: latest }, "counters are kept in Redis");
  }

  async function ready(from?: number): Promise<void> {
    if (from !== undefined || verified === undefined) verified = verify(from);
    const mine = verified;
    await mine.catch((error: unknown) => {
      // The next to ask looks again.
      if (verified === mine) verified = undefined;
      throw error;
    });
  }

  function track<Result>(work: Promise<Result>): Promise<Result> {
    const tracked: Promise<unknown> = work.catch(() => undefined).finally(() => running.delete(tracked));
    running.add(tracked);
    return work;
  }

  return {
    ...engine,
    async run(asks) {
      await ready();
      const replies = await track(engine.run(asks));
      for (const reply of replies) {
        if (reply.kind !== "stale") continue;
        latest = Math.max(latest, reply.generation);
        invalidateGeneration();
      }
      return replies;
    },
    async prime(meter, token, snapshot) {
      await ready();
      await engine.prime(meter, token, snapshot);
    },
    async forget(meter) {
      await ready();
      await engine.forget(meter);
    },
    ping: async () => void (await readRunIds(redis)),
    invalidateGeneration,
    async readGeneration() {
      const row = await database<{ generation: number }>("counter_store").first("generation");
      return row?.generation ?? 0;
    },
    raiseGeneration: (from) => ready(from),
    async drainReplies() {
      await Promise.all(running);
      await nextTurn();
    },
  };
}

/** Calls back when the next question may reach another server than the last one did. */
function onOtherServers(redis: Redis | Cluster, call: () => void): void {
  if (!(redis instanceof Cluster)) {
    redis.on("close", call);
    return;
  }
  let masters = "";
  const watch = (node: Redis) => void node.on("close", call);
  for (const node of redis.nodes()) watch(node);
  redis.on("+node", watch);
  redis.on("refresh", () => {
    const now = mastersOf(redis).map(({ options }) => `${options.host}:${options.port}`);
    if (masters !== (masters = now.toSorted().join(" "))) call();
  });
}

function mastersOf(redis: Redis | Cluster): Redis[] {
  return redis instanceof Cluster ? redis.nodes("master") : [redis];
}

/** Of every server that holds counters: the number that it drew when it was started. */
async function readRunIds(redis: Redis | Cluster): Promise<string> {
  const masters = mastersOf(redis);
  if (masters.length === 0) throw new Error("no server of the Redis Cluster is known yet");
  const ids = await Promise.all(
    masters.map(async (master) => {
      const runId = /^run_id:(\w+)/m.exec(await master.info("server"))?.[1];
      if (runId === undefined) throw new Error("Redis does not tell its run_id");
      return runId;
    }),
  );
  return ids.toSorted().join(" ");
}

import { setImmediate as nextTurn } from "node:timers/promises";
import { Cluster, type Redis } from "ioredis";
import type { Logger } from "pino";
import type { Database } from "../../postgres/database.ts";
import { defineStatements, queryRows } from "../../postgres/statements.ts";
import { mastersOf } from "../../redis/masters.ts";
import { createRoundTrips, measureRoundTrip, type RoundTrips } from "../../shared/measures.ts";
import { createRunningWork } from "../../shared/running-work.ts";
import type { CounterEngine } from "./engine.ts";

export interface GuardOptions {
  readonly redis: Redis | Cluster;
  readonly engine: CounterEngine;
  readonly database: Database;
  readonly logger: Logger;
  /** Counts the reads of run ids. */
  readonly roundTrips?: RoundTrips | undefined;
}

/** A counter engine that several servers share. */
export interface SharedEngine extends CounterEngine {
  /** Resolves when Redis answers. */
  ping(): Promise<void>;
  /** Reads the generation again before the next request. Called when another server may have raised it. */
  invalidateGeneration(): void;
  /** Reads the generation from PostgreSQL. 0 before the first one. */
  readGeneration(): Promise<number>;
  /**
   * Raises the generation, so that every server rebuilds its counters from the ledger. Changes nothing if another server
   * has raised it beyond `from`.
   */
  raiseGeneration(from: number): Promise<void>;
  /** Resolves when all present requests to Redis have their reply, and the replies were handled. */
  drainReplies(): Promise<void>;
  /** Returns the generation that this server counts in. 0 before the first connect. */
  generation(): number;
}

/**
 * Guards an engine against a Redis that lost data. After each connect it compares the run id of Redis with the one in
 * PostgreSQL. A restarted Redis or a promoted replica has a new run id and may lack acknowledged counters. A new run id
 * raises the generation. All servers agree on the generation through PostgreSQL, and meter.lua refuses a server of an earlier one.
 */
export function guardGeneration({
  redis,
  engine,
  database,
  logger,
  roundTrips = createRoundTrips(),
}: GuardOptions): SharedEngine {
  let verified: Promise<void> | undefined;
  /** The highest generation seen in PostgreSQL or Redis. A restored PostgreSQL may hold an earlier one than Redis. */
  let latest = 0;
  const running = createRunningWork();
  const invalidateGeneration = () => {
    verified = undefined;
  };
  onOtherServers(redis, invalidateGeneration);

  /** @param from the generation to end even if the run id is the same */
  async function verify(from: number | undefined): Promise<void> {
    const runId = await measureRoundTrip(roundTrips, readRunIds(redis));
    const [row] = await queryRows<{ generation: number; owner: string }>(database, sql.putGeneration, [
      runId,
      latest,
      from ?? null,
    ]);
    latest = Math.max(latest, row?.generation ?? 0);
    engine.setGeneration(latest, row?.owner);
    logger.info({ runId, generation: latest }, "counter generation verified");
  }

  async function ready(from?: number): Promise<void> {
    if (from !== undefined || verified === undefined) verified = verify(from);
    const current = verified;
    await current.catch((error: unknown) => {
      // The next request tries again.
      if (verified === current) verified = undefined;
      throw error;
    });
  }

  return {
    ...engine,
    async run(asks) {
      await ready();
      const replies = await running.track(engine.run(asks));
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
    ping: async () => void (await measureRoundTrip(roundTrips, readRunIds(redis))),
    invalidateGeneration,
    async readGeneration() {
      const [row] = await queryRows<{ generation: number }>(database, sql.readGeneration);
      return row?.generation ?? 0;
    },
    raiseGeneration: (from) => ready(from),
    async drainReplies() {
      await running.ended();
      await nextTurn();
    },
    generation: () => latest,
  };
}

/** Calls back when the next request may reach another Redis server than the last one. */
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

/** Reads the run id of every Redis server that holds counters. A server draws a new one at each start. */
async function readRunIds(redis: Redis | Cluster): Promise<string> {
  const masters = mastersOf(redis);
  if (masters.length === 0) throw new Error("no master of the Redis Cluster is known yet");
  const ids = await Promise.all(
    masters.map(async (master) => {
      const runId = /^run_id:(\w+)/m.exec(await master.info("server"))?.[1];
      if (runId === undefined) throw new Error("INFO of Redis has no run_id");
      return runId;
    }),
  );
  return ids.toSorted().join(" ");
}

const sql = defineStatements("generation", {
  readGeneration: "select generation from counter_store",
  putGeneration: `
    insert into counter_store as kept (run_id, generation) values ($1, greatest(1, $2::bigint))
    on conflict (id) do update set run_id = excluded.run_id, generation = greatest($2::bigint,
      kept.generation
        + case when kept.run_id = excluded.run_id and kept.generation is distinct from $3::bigint then 0 else 1 end)
    -- A copy of the database in the same server has the same identity but another oid.
    returning generation, left(md5(identity::text || (
      select oid from pg_database where datname = current_database()
    )), 12) as owner`,
});

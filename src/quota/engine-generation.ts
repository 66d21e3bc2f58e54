import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { Database } from "../storage/database.ts";
import type { CounterEngine } from "./counters/engine.ts";

export interface GuardOptions {
  readonly redis: Redis;
  readonly engine: CounterEngine;
  readonly database: Database;
  readonly logger: Logger;
}

/**
 * Looks at every connection which Redis it has reached, before anything is asked there: one that was started anew, or
 * a replica that took over, may hold less than what was acknowledged. All servers agree on it through PostgreSQL.
 */
export function guardGeneration({ redis, engine, database, logger }: GuardOptions): CounterEngine {
  let verified: Promise<void> | undefined;
  redis.on("close", () => {
    verified = undefined;
  });

  async function verify(): Promise<void> {
    const runId = /^run_id:(\w+)/m.exec(await redis.info("server"))?.[1];
    if (runId === undefined) throw new Error("Redis does not tell its run_id");
    const { rows } = await database.raw<{ rows: { generation: number }[] }>(
      `insert into counter_generation as kept (run_id, generation) values (?, 1)
       on conflict (id) do update set run_id = excluded.run_id,
         generation = kept.generation + case when kept.run_id = excluded.run_id then 0 else 1 end
       returning generation`,
      [runId],
    );
    const generation = rows[0]?.generation ?? 0;
    engine.setGeneration(generation);
    logger.info({ runId, generation }, "counters are kept in Redis");
  }

  async function ready(): Promise<void> {
    verified ??= verify();
    const mine = verified;
    await mine.catch((error: unknown) => {
      // The next to ask looks again.
      if (verified === mine) verified = undefined;
      throw error;
    });
  }

  return {
    ...engine,
    run: async (asks) => {
      await ready();
      return engine.run(asks);
    },
    prime: async (meter, snapshot) => {
      await ready();
      await engine.prime(meter, snapshot);
    },
  };
}

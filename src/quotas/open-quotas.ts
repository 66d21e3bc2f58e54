import type { Logger } from "pino";
import type { Database } from "../postgres/database.ts";
import type { Notifications } from "../postgres/notifications.ts";
import { createCounters } from "./counters/counters.ts";
import type { CounterEngine, Remembered } from "./counters/engine.ts";
import { createFailOpenCounters } from "./counters/fail-open.ts";
import { type GuardOptions, guardGeneration, type SharedEngine } from "./counters/generation.ts";
import { createMemoryEngine } from "./counters/memory.ts";
import { createRedisEngine, type RedisEngineOptions } from "./counters/redis.ts";
import type { QuotaServiceOptions } from "./leases/service.ts";
import { createLeaseIds } from "./ledger/lease-id.ts";
import type { Ledger } from "./ledger/ledger.ts";
import { findLease, findMethods, readSnapshot } from "./ledger/read.ts";
import { createLeaseWriter } from "./ledger/write.ts";
import { findQuotaOwner } from "./limits/store.ts";
import type { Subjects } from "./limits/subjects.ts";

export interface QuotaResources {
  readonly database: Database;
  /** Undefined: the counters are kept in this process. */
  readonly engine: SharedEngine | undefined;
  readonly ledger: Ledger;
  readonly notifications: Notifications;
  readonly subjects: Subjects;
  readonly logger: Logger;
  /** What lease ids are signed with: the first signs, all are accepted. */
  readonly secrets: readonly string[];
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Whether who has no quota may do everything, or nothing. */
  readonly unlimitedByDefault: boolean;
  /** Whether a grant is answered only when it is in the ledger. */
  readonly durable: boolean;
  readonly remember: Remembered;
  /** Whether this server counts by itself while Redis is out of reach. */
  readonly failOpen: boolean;
}

export interface Quotas extends QuotaServiceOptions {
  /** Stops counting in this server alone, if it does and Redis can be reached. */
  readonly leaveFailOpen: () => Promise<void>;
}

/** Puts together what the hot path stands on. */
export function openQuotas(resources: QuotaResources): Quotas {
  const { database, engine, ledger, notifications, subjects, logger, now, remember } = resources;
  const create = (counterEngine: CounterEngine) =>
    createCounters({
      engine: counterEngine,
      // What any living server has granted is in the ledger before it is read.
      flush: () => notifications.barrier(),
      readSnapshot: (meter, missing, { timezone }) => readSnapshot(database, meter, { ...missing, timezone, remember }),
      findLease: async ({ userId, service, methodGroup }, operationId, day) =>
        (await findLease(database, { userId, service, methodGroup, day, operationId }))?.lease,
    });
  const createOwn = () => create(createMemoryEngine({ now, remember }));
  const shared = engine && create(engine);
  const failOpen =
    shared && resources.failOpen
      ? createFailOpenCounters({
          shared,
          engine,
          createOwn,
          flush: () => ledger.flush(),
          recall: () => notifications.recall(),
          logger,
        })
      : undefined;
  return {
    subjects,
    counters: failOpen ?? shared ?? createOwn(),
    leaveFailOpen: async () => failOpen?.leaveFailOpen(),
    ledger,
    byDefault: resources.unlimitedByDefault ? [{}] : [],
    durable: resources.durable,
    presence: () => notifications.presence(),
    jitter: Math.random,
    leaseIds: createLeaseIds({ secrets: resources.secrets, now }),
    findLease: (key) => findLease(database, key),
    findFlushedLease: async (key) => {
      await notifications.barrier();
      return findLease(database, key);
    },
    findMethods: async (userId) => {
      await ledger.flush();
      return findMethods(database, userId, now());
    },
    isInScope: async (scope, username) => (await findQuotaOwner(database, scope, username)) !== undefined,
    leases: createLeaseWriter(database),
  };
}

/** The counters of all servers in Redis. */
export function openEngine({
  now,
  remember,
  ...options
}: Omit<GuardOptions, "engine"> & RedisEngineOptions): SharedEngine {
  return guardGeneration({ ...options, engine: createRedisEngine(options.redis, { now, remember }) });
}

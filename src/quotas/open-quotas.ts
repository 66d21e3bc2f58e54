import pLimit from "p-limit";
import type { Logger } from "pino";
import type { Database } from "../postgres/database.ts";
import type { Notifications } from "../postgres/notifications.ts";
import { createCounters, type Rebuilds } from "./counters/counters.ts";
import type { CounterEngine, Remembered } from "./counters/engine.ts";
import { createFailOpenCounters } from "./counters/fail-open.ts";
import { type GuardOptions, guardGeneration, type SharedEngine } from "./counters/generation.ts";
import { createMemoryEngine } from "./counters/memory.ts";
import { createRedisEngine, type RedisEngineOptions } from "./counters/redis.ts";
import { createDecisionCounts } from "./leases/decision-counts.ts";
import type { QuotaServiceOptions } from "./leases/service.ts";
import { createLeaseIds, type LeaseKey } from "./ledger/lease-id.ts";
import type { Ledger } from "./ledger/ledger.ts";
import { findLease, findMethods, readSnapshot } from "./ledger/read.ts";
import { createLeaseWriter } from "./ledger/write.ts";
import { findQuotaOwner, listCompanyUsers } from "./limits/store.ts";
import type { Subjects } from "./limits/subjects.ts";
import { createUsageWatches, type WatchLimits } from "./watch/usage-watches.ts";

export interface QuotaResources {
  readonly database: Database;
  /** Undefined to keep the counters in this process. */
  readonly engine: SharedEngine | undefined;
  readonly ledger: Ledger;
  readonly notifications: Notifications;
  readonly subjects: Subjects;
  readonly logger: Logger;
  /** The secrets of lease ids. The first signs, all are accepted. */
  readonly secrets: readonly string[];
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Whether a user without a quota may do everything. By default nothing. */
  readonly unlimitedByDefault: boolean;
  /** Whether a grant is answered only when it is in the ledger. */
  readonly durable: boolean;
  readonly remember: Remembered;
  /** Whether this server counts alone while Redis is unavailable. */
  readonly failOpen: boolean;
  readonly isCompany: (key: string) => Promise<boolean>;
  /** The limits of streams of usage that differ from the default ones. */
  readonly watchLimits: Partial<WatchLimits>;
  /** Whether lease ids are signed. */
  readonly isSigning: () => boolean;
}

export interface Quotas extends QuotaServiceOptions {
  /** Leaves fail-open if Redis answers. Does nothing outside fail-open. */
  readonly leaveFailOpen: () => Promise<void>;
  /** Whether this server counts alone now, because Redis is unavailable. */
  readonly isAlone: () => boolean;
  readonly rebuilds: Rebuilds;
}

/** The most leases read at once: a batch of unknown ones must leave connections to other calls. */
const maxLeaseReads = 4;

/** Wires the counters, the ledger and the users for the quota service. */
export function openQuotas(resources: QuotaResources): Quotas {
  const { database, engine, ledger, notifications, subjects, logger, now, remember } = resources;
  const rebuilds: Rebuilds = { primes: 0, restores: 0 };
  const reading = pLimit(maxLeaseReads);
  const find = (key: LeaseKey) => reading(() => findLease(database, key));
  const create = (counterEngine: CounterEngine) =>
    createCounters({
      engine: counterEngine,
      // The grants of every living server are in the ledger before it is read.
      flush: () => notifications.barrier(),
      readSnapshot: (meter, missing, { timezone }) => readSnapshot(database, meter, { ...missing, timezone, remember }),
      findLease: async ({ userId, service, methodGroup }, operationId, day) =>
        (await find({ userId, service, methodGroup, day, operationId }))?.lease,
      rebuilds,
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
  const counters = failOpen ?? shared ?? createOwn();
  const byDefault = resources.unlimitedByDefault ? [{}] : [];
  return {
    subjects,
    counters,
    watches: createUsageWatches({ subjects, counters, byDefault, limits: resources.watchLimits }),
    isCompany: resources.isCompany,
    listCompanyUsers: (key, limit) => listCompanyUsers(database, key, limit),
    leaveFailOpen: async () => failOpen?.leaveFailOpen(),
    ledger,
    byDefault,
    durable: resources.durable,
    presence: () => notifications.presence(),
    jitter: Math.random,
    leaseIds: createLeaseIds({ secrets: resources.secrets, now, isSigning: resources.isSigning }),
    findLease: find,
    findFlushedLease: async (key) => {
      await notifications.barrier();
      return find(key);
    },
    findMethods: async (userId) => {
      await ledger.flush();
      return findMethods(database, userId, now());
    },
    isInScope: async (scope, username) => (await findQuotaOwner(database, scope, username)) !== undefined,
    leases: createLeaseWriter(database),
    counts: createDecisionCounts(),
    isAlone: () => failOpen?.isAlone() === true,
    rebuilds,
  };
}

/** Creates the engine that all servers share in Redis. */
export function openEngine({
  now,
  remember,
  roundTrips,
  onLostSettlement,
  ...options
}: Omit<GuardOptions, "engine"> & RedisEngineOptions): SharedEngine {
  return guardGeneration({
    ...options,
    roundTrips,
    engine: createRedisEngine(options.redis, { now, remember, roundTrips, onLostSettlement }),
  });
}

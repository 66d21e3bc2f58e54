import { setTimeout as wait } from "node:timers/promises";
import type { Cluster, Redis } from "ioredis";
import type { Logger } from "pino";
import type { Authenticator } from "../accounts/auth/service.ts";
import { findCompany } from "../accounts/companies/store.ts";
import type { DeliveryCounts } from "../alerts/delivery.ts";
import type { UserHistory } from "../audit/user-history.ts";
import type { Config } from "../config.ts";
import type { RedisSource } from "../metrics/sources.ts";
import { watchLastRelease } from "../postgres/last-release.ts";
import { type Notifications, openNotifications } from "../postgres/notifications.ts";
import { createCorrections } from "../quotas/counters/corrections.ts";
import type { Meter } from "../quotas/counters/engine.ts";
import { type DriftCheck, type DriftOptions, startDriftCheck } from "../quotas/ledger/drift.ts";
import { createLedger, type Ledger, type LedgerLimits } from "../quotas/ledger/ledger.ts";
import { createSubjects, type Subjects } from "../quotas/limits/subjects.ts";
import { openEngine, openQuotas, type Quotas } from "../quotas/open-quotas.ts";
import { defaultWatchLimits, type UsageWatches, type WatchLimits } from "../quotas/watch/usage-watches.ts";
import { createRoundTrips } from "../shared/measures.ts";
import type { ActionWriter, UsageWriter } from "../shared/records.ts";
import { openAlerts } from "./alerts.ts";
import type { Closers } from "./closers.ts";
import type { Databases } from "./databases.ts";

export interface QuotaWiring {
  readonly quotas: Quotas;
  readonly subjects: Subjects;
  readonly notifications: Notifications;
  readonly corrections: () => number;
  /** Undefined when no alerts are sent. */
  readonly deliveries: DeliveryCounts | undefined;
  /** Undefined when the counters are in this process. */
  readonly redisSource: RedisSource | undefined;
}

export interface QuotaWiringResources {
  readonly databases: Databases;
  readonly redis: Redis | Cluster | undefined;
  /** Milliseconds since the epoch. Undefined for the clock of Redis. */
  readonly redisNow: (() => number) | undefined;
  /** Undefined for the limits of production. */
  readonly ledgerLimits: LedgerLimits | undefined;
  /** Limits of streams of usage that differ from those of production. */
  readonly watchLimits: Partial<WatchLimits> | undefined;
  readonly secrets: readonly string[];
  readonly actions: ActionWriter;
  readonly usage: UsageWriter;
  readonly authenticator: Authenticator;
  readonly userHistory: UserHistory;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** The deadline of the last ledger write when this server stops, on the clock of performance.now(). */
  readonly flushDeadlineMs: () => number;
  /** Called when the server stops, with the number of leases that were not written by the deadline. */
  readonly onUnwritten: (count: number) => void;
}

/**
 * Wires the counters, the ledger and the notifications between servers. They form a circle: the ledger corrects the
 * counters, the counters wait for the ledgers of all servers, and the notifications flush this server's ledger.
 */
export async function openQuotaWiring(
  config: Config,
  resources: QuotaWiringResources,
  closers: Closers,
): Promise<QuotaWiring> {
  const { databases, redis, redisNow, ledgerLimits, secrets, authenticator, userHistory, logger, now, ...writing } =
    resources;
  const { database, url, outages } = databases;
  const subjects = createSubjects({ database, now, unnoticedMs: () => notifications.unnoticedMs() });
  const alerts = openAlerts(config, { database, logger, subjects, now }, closers);
  const forget = (meter: Meter) => quotas.counters.forget(meter);
  const corrections = createCorrections({ forget, logger });
  const doubtful = createCorrections({
    async forget(meter) {
      await engine?.ping();
      // Counters that are only in doubt can wait for the grants that connected servers have not written yet.
      if (!(await notifications.barrier())) throw new Error("a server has not flushed its grants");
      await forget(meter);
    },
    logger,
    retryMs: 2000,
  });
  const correctDoubtful = (meter: Meter) => void doubtful.correct(meter);
  closers.push(async () => corrections.stop());
  closers.push(async () => doubtful.stop());
  const ledger = createLedger({
    database,
    logger,
    alerts: alerts?.writer,
    actions: writing.actions,
    usage: writing.usage,
    onContradiction: (meter) => void corrections.correct(meter),
    onLateSettlement: correctDoubtful,
    ...ledgerLimits,
  });
  const remember = { ms: config.QUOTA_REMEMBER_SECONDS * 1000, operations: config.QUOTA_REMEMBER_OPERATIONS };
  const roundTrips = createRoundTrips();
  const counting = { now: redisNow, remember, roundTrips, onLostSettlement: correctDoubtful };
  const engine = redis && openEngine({ redis, database, logger, ...counting });
  /** Set when the quotas are open. Notices arrive before. */
  let watches: UsageWatches | undefined;
  let leaveFailOpen = async (): Promise<void> => {};
  const onFlush = async (): Promise<void> => {
    // Every grant of Redis must have reached the ledger before it is flushed.
    await engine?.drainReplies();
    await ledger.flush();
  };
  const notifications = await openNotifications({
    url,
    logger,
    outages,
    onUsers(userIds) {
      authenticator.forget(userIds);
      subjects.invalidate(userIds);
      userHistory.invalidate();
      watches?.invalidate(userIds);
    },
    onGeneration: () => engine?.invalidateGeneration(),
    onFlush,
    async onRecall() {
      await leaveFailOpen();
      await onFlush();
    },
  });
  closers.push(() => notifications.close());
  closers.push(() => writeLedger(ledger, writing));
  const lastRelease = await watchLastRelease({ database, logger });
  closers.push(async () => lastRelease.stop());
  const quotas = openQuotas({
    database,
    engine,
    ledger,
    notifications,
    subjects,
    logger,
    secrets,
    now,
    unlimitedByDefault: config.QUOTA_DEFAULT === "unlimited",
    remember,
    durable: config.LEDGER_ACK === "commit",
    failOpen: config.QUOTA_FAIL_OPEN,
    isCompany: async (key) => (await findCompany(database, { kind: "everything" }, key)) !== undefined,
    // A connection that reaches its age ends with its last stream.
    watchLimits: {
      maxAgeMs: Math.min(config.MAX_CONNECTION_AGE_MS || defaultWatchLimits.maxAgeMs, defaultWatchLimits.maxAgeMs),
      ...writing.watchLimits,
    },
    isSigning: () => !lastRelease.isRunning(),
  });
  watches = quotas.watches;
  leaveFailOpen = quotas.leaveFailOpen;
  const drift = redis && openDriftCheck(config, { database, redis, logger }, closers);
  const redisSource = redis &&
    engine && { roundTrips, isConnected: () => redis.status === "ready", generation: engine.generation, drift };
  const countCorrections = () => corrections.count() + doubtful.count();
  return { quotas, subjects, notifications, corrections: countCorrections, deliveries: alerts?.counts, redisSource };
}

function openDriftCheck(
  { DRIFT_CHECK_SECONDS: seconds }: Config,
  resources: Omit<DriftOptions, "intervalMs">,
  closers: Closers,
): DriftCheck | undefined {
  if (seconds === 0) return undefined;
  const drift = startDriftCheck({ ...resources, intervalMs: seconds * 1000 });
  closers.push(() => drift.stop());
  return drift;
}

async function writeLedger(
  ledger: Ledger,
  { flushDeadlineMs, onUnwritten }: Pick<QuotaWiringResources, "flushDeadlineMs" | "onUnwritten">,
): Promise<void> {
  await Promise.race([ledger.flush(), wait(flushDeadlineMs() - performance.now(), undefined, { ref: false })]);
  onUnwritten(ledger.pending());
}

import type { DeliveryCounts } from "../alerts/delivery.ts";
import type { OutboxTotals } from "../alerts/outbox.ts";
import type { SinkCounts } from "../audit/sink.ts";
import type { ConversionUse } from "../data/convert.ts";
import type { DataCounts } from "../data/counts.ts";
import type { CallSeries } from "../pipeline/call-counts.ts";
import type { PoolUse } from "../postgres/database.ts";
import type { GroupCommit } from "../postgres/group-commit.ts";
import type { Rebuilds } from "../quotas/counters/counters.ts";
import type { DecisionCounts } from "../quotas/leases/decision-counts.ts";
import type { LeaseTotals } from "../quotas/ledger/count-leases.ts";
import type { DriftCheck } from "../quotas/ledger/drift.ts";
import type { CacheUses } from "../shared/cache.ts";
import type { RoundTrips } from "../shared/measures.ts";
import type { ProcessMeasures } from "./process-measures.ts";

/** The sources of the metrics: plain numbers that the parts of the server keep, and functions that return them. */
export interface MetricSources {
  /** `major.minor.build` */
  readonly version: string;
  readonly calls: () => readonly CallSeries[];
  readonly decisions: DecisionCounts;
  /** Undefined while PostgreSQL does not answer. */
  readonly leases: () => Promise<LeaseTotals | undefined>;
  readonly queues: Readonly<Record<"ledger" | "audit", GroupCommitQueue>>;
  readonly rebuilds: Rebuilds;
  readonly corrections: () => number;
  /** Undefined when no alerts are sent. */
  readonly alerts: AlertSource | undefined;
  readonly isAlone: () => boolean;
  readonly caches: Readonly<Record<"users" | "accounts", CacheUses>>;
  /** Undefined when the counters are in this process. */
  readonly redis: RedisSource | undefined;
  readonly pools: Readonly<Record<"calls" | "public", PoolSource>>;
  readonly data: DataCounts;
  /** Undefined without AUDIT_SINK_URL. */
  readonly auditSink: AuditSinkSource | undefined;
  readonly conversions: () => ConversionUse;
  readonly process: ProcessMeasures;
}

export type GroupCommitQueue = Pick<GroupCommit<never>, "pending" | "oldestMs" | "measures">;

export interface AlertSource {
  readonly deliveries: DeliveryCounts;
  /** Undefined while PostgreSQL does not answer. */
  readonly totals: () => Promise<OutboxTotals | undefined>;
}

export interface RedisSource {
  readonly roundTrips: RoundTrips;
  readonly isConnected: () => boolean;
  readonly generation: () => number;
  /** Undefined when it is off. */
  readonly drift: DriftCheck | undefined;
}

export interface AuditSinkSource {
  readonly counts: SinkCounts;
  /** In seconds. Undefined while PostgreSQL does not answer. */
  readonly unsentAge: () => Promise<number | undefined>;
}

export interface PoolSource {
  readonly roundTrips: RoundTrips;
  readonly use: () => PoolUse;
}

import type { Verdicts } from "../quotas/leases/decision-counts.ts";
import { limitFieldOf } from "../quotas/leases/refusal.ts";
import { byLabel, type MetricDefinition, mapValues, oneSample, type Sample } from "./definition.ts";

/** Decisions, leases, the ledger and the counters. */
export const quotaMetrics: readonly MetricDefinition[] = [
  {
    name: "tollgate_decisions_total",
    type: "counter",
    help: "Decisions of acquires and checks, in batches and streams too. `limit` is the first limit that refuses; `reason` is that of docs/errors.md.",
    labels: ["kind", "verdict", "limit", "reason"],
    workers: "sum",
    read: ({ decisions: { acquire, check } }) => [
      ...verdictSamples("acquire", acquire),
      ...verdictSamples("check", check),
    ],
  },
  {
    name: "tollgate_degraded_grants_total",
    type: "counter",
    help: "Grants that a server made alone while Redis was unavailable (`QUOTA_FAIL_OPEN`).",
    labels: [],
    workers: "sum",
    read: ({ decisions }) => oneSample(decisions.degraded),
  },
  {
    name: "tollgate_leases",
    type: "gauge",
    help: "Leases of all servers in the ledger: `live`, or `expired` within the last day without a settlement or a release. Absent while PostgreSQL does not answer.",
    labels: ["state"],
    workers: "max",
    async read({ leases }) {
      const totals = await leases();
      return totals === undefined ? [] : byLabel("state", { live: totals.live, expired: totals.expired });
    },
  },
  {
    name: "tollgate_lease_ends_total",
    type: "counter",
    help: "Leases that ended here. `settled_late`: settled after the lease had expired or was released. `force_released`: by an administrator.",
    labels: ["end"],
    workers: "sum",
    read({ decisions: { ends } }) {
      const { settled, settledLate, released, forceReleased } = ends;
      const values = { settled, settled_late: settledLate, released, force_released: forceReleased };
      return byLabel("end", values);
    },
  },
  {
    name: "tollgate_queue_entries",
    type: "gauge",
    help: "Entries that are not committed to PostgreSQL yet: of leases (`ledger`) and of recorded actions (`audit`).",
    labels: ["queue"],
    workers: "sum",
    read: ({ queues }) =>
      byLabel(
        "queue",
        mapValues(queues, (queue) => queue.pending()),
      ),
  },
  {
    name: "tollgate_queue_oldest_entry_age_seconds",
    type: "gauge",
    help: "How long the oldest of these entries has waited.",
    labels: ["queue"],
    workers: "max",
    read: ({ queues }) =>
      byLabel(
        "queue",
        mapValues(queues, (queue) => queue.oldestMs() / 1000),
      ),
  },
  {
    name: "tollgate_group_commit_entries",
    type: "histogram",
    help: "Entries of each committed batch.",
    labels: ["queue"],
    workers: "sum",
    read: ({ queues }) =>
      byLabel(
        "queue",
        mapValues(queues, ({ measures }) => measures.entries),
      ),
  },
  {
    name: "tollgate_group_commit_duration_seconds",
    type: "histogram",
    help: "Time to commit each batch, with its retries.",
    labels: ["queue"],
    workers: "sum",
    read: ({ queues }) =>
      byLabel(
        "queue",
        mapValues(queues, ({ measures }) => measures.seconds),
      ),
  },
  {
    name: "tollgate_group_commit_dropped_entries_total",
    type: "counter",
    help: "Entries that PostgreSQL refused. The log has each of them.",
    labels: ["queue"],
    workers: "sum",
    read: ({ queues }) =>
      byLabel(
        "queue",
        mapValues(queues, ({ measures }) => measures.dropped),
      ),
  },
  {
    name: "tollgate_meter_primes_total",
    type: "counter",
    help: "Counters of a user, service and method group that were rebuilt from the ledger.",
    labels: [],
    workers: "sum",
    read: ({ rebuilds }) => oneSample(rebuilds.primes),
  },
  {
    name: "tollgate_meter_restores_total",
    type: "counter",
    help: "Leases that the counters did not know and that were restored from the ledger.",
    labels: [],
    workers: "sum",
    read: ({ rebuilds }) => oneSample(rebuilds.restores),
  },
  {
    name: "tollgate_meter_corrections_total",
    type: "counter",
    help: "Counters that were dropped because a settlement in the ledger contradicted them or was written late, or the reply of Redis to a settlement was lost.",
    labels: [],
    workers: "sum",
    read: ({ corrections }) => oneSample(corrections()),
  },
  {
    name: "tollgate_meter_generation",
    type: "gauge",
    help: "Generation of the counters in Redis. It rises when Redis lost data, and all counters are rebuilt.",
    labels: [],
    workers: "max",
    read: ({ redis }) => oneSample(redis?.generation()),
  },
  {
    name: "tollgate_fail_open",
    type: "gauge",
    help: "Processes that decide alone now, because Redis is unavailable (`QUOTA_FAIL_OPEN`).",
    labels: [],
    workers: "sum",
    read: ({ isAlone }) => oneSample(Number(isAlone())),
  },
  {
    name: "tollgate_drift_meters",
    type: "gauge",
    help: "Counters in Redis that differ from the ledger, as the last check saw them. The log has each of them.",
    labels: [],
    workers: "max",
    read: ({ redis }) => oneSample(redis?.drift?.differing()),
  },
  {
    name: "tollgate_drift_compared_meters_total",
    type: "counter",
    help: "Counters in Redis that were compared with the ledger.",
    labels: [],
    workers: "sum",
    read: ({ redis }) => oneSample(redis?.drift?.counts.compared),
  },
  {
    name: "tollgate_drift_checks_total",
    type: "counter",
    help: "Checks that compare some counters with the ledger (`DRIFT_CHECK_SECONDS`).",
    labels: ["outcome"],
    workers: "sum",
    read({ redis }) {
      if (redis?.drift === undefined) return [];
      const { completed, failed } = redis.drift.counts;
      return byLabel("outcome", { completed, failed });
    },
  },
];

function verdictSamples(kind: string, { granted, refused }: Verdicts): Sample[] {
  const none = { kind, verdict: "granted", limit: "none", reason: "none" };
  const refusals = [...refused].map(([reason, value]) => ({
    labels: { kind, verdict: "refused", limit: limitFieldOf(reason) ?? "none", reason },
    value,
  }));
  return [{ labels: none, value: granted }, ...refusals];
}

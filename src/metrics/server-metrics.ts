import { byLabel, type MetricDefinition, mapValues, oneSample } from "./definition.ts";

/** The codes of gRPC, by number. */
const codes = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** Calls, caches, Redis, PostgreSQL, uploads, conversions and the audit sink. */
export const serverMetrics: readonly MetricDefinition[] = [
  {
    name: "tollgate_build_info",
    type: "gauge",
    help: "1, with the version of the server and of Node.",
    labels: ["version", "node"],
    workers: "max",
    read: ({ version }) => [{ labels: { version, node: process.version }, value: 1 }],
  },
  {
    name: "tollgate_calls_total",
    type: "counter",
    help: "Calls that ended, by RPC, transport (`http`, `connect`, `grpc`, `grpc-web`) and gRPC code. `unknown`: the request names no RPC.",
    labels: ["rpc", "transport", "code"],
    workers: "sum",
    read: ({ calls }) =>
      calls().flatMap(({ rpc, transport, codes: counts }) =>
        counts.flatMap((value, code) =>
          value === 0 ? [] : [{ labels: { rpc, transport, code: codes[code] ?? "UNKNOWN" }, value }],
        ),
      ),
  },
  {
    name: "tollgate_call_duration_seconds",
    type: "histogram",
    help: "Time from the headers of a call to its result. A stream lasts until it ends.",
    labels: ["rpc", "transport"],
    workers: "sum",
    read: ({ calls }) =>
      calls()
        .filter(({ rpc }) => rpc !== "unknown")
        .map(({ rpc, transport, seconds }) => ({ labels: { rpc, transport }, value: seconds })),
  },
  {
    name: "tollgate_cache_lookups_total",
    type: "counter",
    help: "Lookups in the caches of users with their quotas (`users`) and of callers (`accounts`). A miss reads PostgreSQL.",
    labels: ["cache", "result"],
    workers: "sum",
    read: ({ caches }) =>
      Object.entries(caches).flatMap(([cache, { hits, misses }]) => [
        { labels: { cache, result: "hit" }, value: hits },
        { labels: { cache, result: "miss" }, value: misses },
      ]),
  },
  {
    name: "tollgate_redis_connected",
    type: "gauge",
    help: "1 while the server is connected to Redis.",
    labels: [],
    workers: "min",
    read: ({ redis }) => oneSample(redis && Number(redis.isConnected())),
  },
  {
    name: "tollgate_redis_round_trip_duration_seconds",
    type: "histogram",
    help: "Round trips of the counters to Redis, failed ones included. A batch of decisions is one.",
    labels: [],
    workers: "sum",
    read: ({ redis }) => oneSample(redis?.roundTrips.seconds),
  },
  {
    name: "tollgate_redis_errors_total",
    type: "counter",
    help: "Round trips to Redis that failed.",
    labels: [],
    workers: "sum",
    read: ({ redis }) => oneSample(redis?.roundTrips.errors),
  },
  {
    name: "tollgate_postgres_round_trip_duration_seconds",
    type: "histogram",
    help: "Statements, begins and commits, by pool: `calls`, or `public` for work that needs no token.",
    labels: ["pool"],
    workers: "sum",
    read: ({ pools }) =>
      byLabel(
        "pool",
        mapValues(pools, ({ roundTrips }) => roundTrips.seconds),
      ),
  },
  {
    name: "tollgate_postgres_errors_total",
    type: "counter",
    help: "Statements that failed, those that broke a constraint included.",
    labels: ["pool"],
    workers: "sum",
    read: ({ pools }) =>
      byLabel(
        "pool",
        mapValues(pools, ({ roundTrips }) => roundTrips.errors),
      ),
  },
  {
    name: "tollgate_postgres_pool_connections",
    type: "gauge",
    help: "Connections to PostgreSQL: `used` and `free` now, and `max`.",
    labels: ["pool", "state"],
    workers: "sum",
    read: ({ pools }) =>
      Object.entries(pools).flatMap(([pool, source]) => {
        const { used, free, max } = source.use();
        return Object.entries({ used, free, max }).map(([state, value]) => ({ labels: { pool, state }, value }));
      }),
  },
  {
    name: "tollgate_postgres_pool_waiting",
    type: "gauge",
    help: "Callers that wait for a connection.",
    labels: ["pool"],
    workers: "sum",
    read: ({ pools }) =>
      byLabel(
        "pool",
        mapValues(pools, ({ use }) => use().waiting),
      ),
  },
  {
    name: "tollgate_uploads_total",
    type: "counter",
    help: "Uploads that ended. `repeated`: the same bytes were stored already. `failed`: refused, interrupted or too slow.",
    labels: ["outcome"],
    workers: "sum",
    read({ data: { uploads } }) {
      const { stored, repeated, failed } = uploads;
      return byLabel("outcome", { stored, repeated, failed });
    },
  },
  {
    name: "tollgate_upload_bytes_total",
    type: "counter",
    help: "Bytes of stored uploads.",
    labels: [],
    workers: "sum",
    read: ({ data }) => oneSample(data.uploads.bytes),
  },
  {
    name: "tollgate_conversions_total",
    type: "counter",
    help: "Conversions that ended, by the kind of the stored file. `failed`: not convertible, too large or too late.",
    labels: ["from", "outcome"],
    workers: "sum",
    read: ({ data: { conversions } }) =>
      Object.entries(conversions).flatMap(([from, { converted, failed }]) => [
        { labels: { from, outcome: "converted" }, value: converted },
        { labels: { from, outcome: "failed" }, value: failed },
      ]),
  },
  {
    name: "tollgate_conversion_duration_seconds",
    type: "histogram",
    help: "Time of each conversion, with its time in the queue.",
    labels: ["from"],
    workers: "sum",
    read: ({ data }) =>
      byLabel(
        "from",
        mapValues(data.conversions, ({ seconds }) => seconds),
      ),
  },
  {
    name: "tollgate_conversions_waiting",
    type: "gauge",
    help: "Conversions that wait for their turn.",
    labels: [],
    workers: "sum",
    read: ({ conversions }) => oneSample(conversions().waiting),
  },
  {
    name: "tollgate_conversion_held_bytes",
    type: "gauge",
    help: "Bytes of conversion results that are being sent.",
    labels: [],
    workers: "sum",
    read: ({ conversions }) => oneSample(conversions().heldBytes),
  },
  {
    name: "tollgate_audit_sink_oldest_action_age_seconds",
    type: "gauge",
    help: "How long the oldest action of all servers has waited to be sent to the audit sink. Absent without `AUDIT_SINK_URL`, and while PostgreSQL does not answer.",
    labels: [],
    workers: "max",
    read: async ({ auditSink }) => oneSample(await auditSink?.unsentAge()),
  },
  {
    name: "tollgate_audit_sink_batches_total",
    type: "counter",
    help: "Batches that the audit sink accepted, and attempts that failed.",
    labels: ["outcome"],
    workers: "sum",
    read: ({ auditSink }) => (auditSink === undefined ? [] : byLabel("outcome", { ...auditSink.counts.batches })),
  },
  {
    name: "tollgate_audit_sink_actions_total",
    type: "counter",
    help: "Actions that the audit sink accepted (`sent`), and actions that retention dropped before they were sent, counted with the batch that reports them (`dropped`).",
    labels: ["outcome"],
    workers: "sum",
    read: ({ auditSink }) => (auditSink === undefined ? [] : byLabel("outcome", { ...auditSink.counts.actions })),
  },
];

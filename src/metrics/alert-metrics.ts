import { byLabel, type MetricDefinition, oneSample } from "./definition.ts";

/** Quota alerts and their delivery. Absent without WEBHOOK_URL. */
export const alertMetrics: readonly MetricDefinition[] = [
  {
    name: "tollgate_alerts_unsent",
    type: "gauge",
    help: "Quota alerts of all servers that are not sent: `waiting` for an attempt, or `abandoned` after the last one. Absent while PostgreSQL does not answer.",
    labels: ["state"],
    workers: "max",
    async read({ alerts }) {
      const totals = await alerts?.totals();
      return totals === undefined ? [] : byLabel("state", { waiting: totals.waiting, abandoned: totals.abandoned });
    },
  },
  {
    name: "tollgate_alerts_oldest_waiting_age_seconds",
    type: "gauge",
    help: "How long the oldest alert that is not sent has waited. 0 when none waits.",
    labels: [],
    workers: "max",
    read: async ({ alerts }) => oneSample((await alerts?.totals())?.oldestSeconds),
  },
  {
    name: "tollgate_alert_deliveries_total",
    type: "counter",
    help: "Attempts to send an alert. `failed`: another attempt follows. `abandoned`: the last attempt failed.",
    labels: ["outcome"],
    workers: "sum",
    read({ alerts }) {
      if (alerts === undefined) return [];
      const { sent, failed, abandoned } = alerts.deliveries;
      return byLabel("outcome", { sent, failed, abandoned });
    },
  },
];

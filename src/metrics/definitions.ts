import { alertMetrics } from "./alert-metrics.ts";
import type { MetricDefinition } from "./definition.ts";
import { processMetrics } from "./process-metrics.ts";
import { quotaMetrics } from "./quota-metrics.ts";
import { serverMetrics } from "./server-metrics.ts";

/** Every metric, in the order of docs/metrics.md. */
export const metricDefinitions: readonly MetricDefinition[] = [
  ...serverMetrics,
  ...quotaMetrics,
  ...alertMetrics,
  ...processMetrics,
];

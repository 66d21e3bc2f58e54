import { AggregatorRegistry, type Registry } from "prom-client";
import type { Histogram } from "../shared/measures.ts";
import type { MetricDefinition, Sample } from "./definition.ts";
import { metricDefinitions } from "./definitions.ts";
import type { MetricSources } from "./sources.ts";

/** A metric and its values, in the form of prom-client. It can be sent to another process. */
export interface CollectedMetric {
  readonly name: string;
  readonly help: string;
  readonly type: MetricDefinition["type"];
  readonly aggregator: MetricDefinition["workers"];
  readonly values: readonly CollectedValue[];
}

interface CollectedValue {
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** Reads every metric. */
export function collectMetrics(sources: MetricSources): Promise<CollectedMetric[]> {
  return Promise.all(metricDefinitions.map((definition) => collect(definition, sources)));
}

async function collect(definition: MetricDefinition, sources: MetricSources): Promise<CollectedMetric> {
  const { name, help, type, workers } = definition;
  const samples = await definition.read(sources);
  return { name, help, type, aggregator: workers, values: samples.flatMap((sample) => valuesOf(name, sample)) };
}

function valuesOf(name: string, { labels, value }: Sample): CollectedValue[] {
  return typeof value === "number" ? [{ metricName: name, labels, value }] : bucketsOf(name, labels, value);
}

/** Returns the cumulative counts that Prometheus expects. */
function bucketsOf(name: string, labels: Sample["labels"], { bounds, counts, sum }: Histogram): CollectedValue[] {
  let total = 0;
  const buckets = counts.map((count, index) => {
    total += count;
    return { metricName: `${name}_bucket`, labels: { ...labels, le: bounds[index] ?? "+Inf" }, value: total };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: sum },
    { metricName: `${name}_count`, labels, value: total },
  ];
}

export const metricsContentType = "text/plain; version=0.0.4; charset=utf-8";

/**
 * Writes the metrics of one or more processes in the text format of Prometheus. Values with the same labels become one:
 * counters and histograms are summed, gauges follow the rule of their definition.
 */
export function formatMetrics(processes: readonly (readonly CollectedMetric[])[]): Promise<string> {
  return aggregate(processes).metrics();
}

/** Merges the metrics of processes by the same rules. */
export async function mergeMetrics(
  processes: readonly (readonly CollectedMetric[])[],
): Promise<readonly CollectedMetric[]> {
  return (await aggregate(processes).getMetricsAsJSON()) as unknown as CollectedMetric[];
}

function aggregate(processes: readonly (readonly CollectedMetric[])[]): Registry {
  return AggregatorRegistry.aggregate(processes as unknown as object[]);
}

/** Returns what must still be counted after a process has exited: a counter never falls. */
export function keepCounts(metrics: readonly CollectedMetric[]): CollectedMetric[] {
  return metrics.filter(({ type }) => type !== "gauge");
}

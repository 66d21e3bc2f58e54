import type { Histogram } from "../shared/measures.ts";
import type { MetricSources } from "./sources.ts";

/** A metric, and how it is read. Labels have closed sets of values: nothing that a caller sends is a label. */
export interface MetricDefinition {
  readonly name: `${"tollgate" | "process"}_${string}`;
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
  readonly labels: readonly string[];
  /** How the values of worker processes become one value. */
  readonly workers: "sum" | "max" | "min";
  readonly read: (sources: MetricSources) => readonly Sample[] | Promise<readonly Sample[]>;
}

/** A value with its labels. A histogram has a Histogram as its value. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number | Histogram;
}

/** The samples of a metric without labels. Undefined: the metric has no value now. */
export function oneSample(value: number | Histogram | undefined): Sample[] {
  return value === undefined ? [] : [{ labels: {}, value }];
}

/** The samples of a metric with one label: a value for each name. */
export function byLabel(label: string, values: Readonly<Record<string, number | Histogram>>): Sample[] {
  return Object.entries(values).map(([name, value]) => ({ labels: { [label]: name }, value }));
}

/** Returns the value of each name. */
export function mapValues<Value, Result>(
  values: Readonly<Record<string, Value>>,
  of: (value: Value) => Result,
): Record<string, Result> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, of(value)]));
}

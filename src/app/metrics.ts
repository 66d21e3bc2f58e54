import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { type CollectedMetric, collectMetrics, formatMetrics } from "../metrics/collect.ts";
import { listenForMetrics, type MetricsListener } from "../metrics/listener.ts";
import { startProcessMeasures } from "../metrics/process-measures.ts";
import type { MetricSources } from "../metrics/sources.ts";
import { type CallCounts, createCallCounts } from "../pipeline/call-counts.ts";
import type { Closers } from "./closers.ts";
import { urlHost } from "./listener.ts";
import { withSettingNames } from "./setting-errors.ts";

export interface Metrics {
  readonly calls: CallCounts;
  /** Serves the metrics. Returns their address; undefined in a worker process. */
  serve(sources: Omit<MetricSources, "calls" | "process">): Promise<string | undefined>;
}

/** Takes the function that reads the metrics of this process, instead of the listener. */
export type OnMetrics = (read: () => Promise<CollectedMetric[]>) => void;

/**
 * Prepares the metrics. Undefined when METRICS_PORT is empty: then nothing is measured that only metrics need. Opened
 * first, so that the metrics are served until the drain has ended.
 */
export function openMetrics(
  config: Config,
  { logger, onMetrics }: { readonly logger: Logger; readonly onMetrics: OnMetrics | undefined },
  closers: Closers,
): Metrics | undefined {
  if (config.METRICS_PORT === undefined) return undefined;
  const calls = createCallCounts();
  const measures = startProcessMeasures();
  let listener: MetricsListener | undefined;
  closers.push(async () => {
    measures.stop();
    await listener?.close();
  });
  return {
    calls,
    async serve(sources) {
      const read = () => collectMetrics({ ...sources, calls: calls.list, process: measures });
      if (onMetrics !== undefined) {
        onMetrics(read);
        return undefined;
      }
      listener = await openMetricsListener(config, async () => formatMetrics([await read()]), logger);
      return metricsUrl(config, listener);
    },
  };
}

/** Listens on METRICS_HOST and METRICS_PORT. */
export function openMetricsListener(
  { METRICS_HOST, HOST, METRICS_PORT = 0 }: Config,
  read: () => Promise<string>,
  logger: Logger,
): Promise<MetricsListener> {
  const listening = listenForMetrics({ host: METRICS_HOST || HOST, port: METRICS_PORT, read, logger });
  return withSettingNames("METRICS_HOST and METRICS_PORT", listening);
}

/** Returns the address at which Prometheus reads the metrics. */
export function metricsUrl({ METRICS_HOST, HOST }: Config, { port }: MetricsListener): string {
  return `http://${urlHost(METRICS_HOST || HOST)}:${port}/metrics`;
}

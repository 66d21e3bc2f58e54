import { constants, monitorEventLoopDelay, PerformanceObserver } from "node:perf_hooks";
import { addValue, createHistogram, type Histogram } from "../shared/measures.ts";

export type GcKind = "minor" | "major" | "incremental" | "weakcb";

/** The event loop and the garbage collector of this process. */
export interface ProcessMeasures {
  readonly gc: Readonly<Record<GcKind, Histogram>>;
  /** Returns percentiles of the event loop's delay since the last call, in seconds. */
  takeDelays(): Readonly<Record<"50" | "99" | "100", number>>;
  stop(): void;
}

/** A tick of each 10 ms would take 0.8 % of a core, most of what metrics may cost. */
const resolutionMs = 50;
const gcBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5];

/**
 * Starts to measure. Not the default metrics of prom-client: they count only the first of several collections, and list
 * every open connection at each scrape.
 */
export function startProcessMeasures(): ProcessMeasures {
  const create = () => createHistogram(gcBounds);
  const gc = { minor: create(), major: create(), incremental: create(), weakcb: create() };
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries() as unknown as GcEntry[])
      addValue(gc[kindOf(entry.detail.kind)], entry.duration / 1000);
  });
  observer.observe({ entryTypes: ["gc"] });
  const delays = monitorEventLoopDelay({ resolution: resolutionMs });
  delays.enable();
  // The histogram has the time from one tick of its timer to the next.
  const toSeconds = (nanoseconds: number) => Math.max(0, nanoseconds / 1e9 - resolutionMs / 1000);
  return {
    gc,
    takeDelays() {
      const taken = {
        "50": toSeconds(delays.percentile(50)),
        "99": toSeconds(delays.percentile(99)),
        "100": toSeconds(delays.max),
      };
      delays.reset();
      return taken;
    },
    stop() {
      observer.disconnect();
      delays.disable();
    },
  };
}

/** The entry of a collection, which has no type. */
interface GcEntry {
  /** In milliseconds. */
  readonly duration: number;
  readonly detail: { readonly kind: number };
}

function kindOf(kind: number): GcKind {
  switch (kind) {
    case constants.NODE_PERFORMANCE_GC_MINOR:
      return "minor";
    case constants.NODE_PERFORMANCE_GC_MAJOR:
      return "major";
    case constants.NODE_PERFORMANCE_GC_INCREMENTAL:
      return "incremental";
    default:
      return "weakcb";
  }
}

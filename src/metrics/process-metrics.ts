import { readdir } from "node:fs/promises";
import { byLabel, type MetricDefinition, oneSample } from "./definition.ts";

/** The process. Names without the prefix are those that every Prometheus client has. */
export const processMetrics: readonly MetricDefinition[] = [
  {
    name: "tollgate_event_loop_delay_seconds",
    type: "gauge",
    help: "Delay of the event loop since the last scrape: the median, the 99th percentile and the maximum (100).",
    labels: ["percentile"],
    workers: "max",
    read: ({ process: measures }) => byLabel("percentile", measures.takeDelays()),
  },
  {
    name: "tollgate_event_loop_active_seconds_total",
    type: "counter",
    help: "Time in which the event loop was not idle.",
    labels: [],
    workers: "sum",
    read: () => oneSample(performance.eventLoopUtilization().active / 1000),
  },
  {
    name: "tollgate_gc_duration_seconds",
    type: "histogram",
    help: "Garbage collections, by kind.",
    labels: ["kind"],
    workers: "sum",
    read: ({ process: measures }) => byLabel("kind", measures.gc),
  },
  {
    name: "process_cpu_seconds_total",
    type: "counter",
    help: "Processor time, of the system and of the program.",
    labels: [],
    workers: "sum",
    read() {
      const { user, system } = process.cpuUsage();
      return oneSample((user + system) / 1e6);
    },
  },
  {
    name: "process_resident_memory_bytes",
    type: "gauge",
    help: "Resident memory.",
    labels: [],
    workers: "sum",
    read: () => oneSample(process.memoryUsage.rss()),
  },
  {
    name: "process_heap_bytes",
    type: "gauge",
    help: "Memory of the JavaScript heap that is in use.",
    labels: [],
    workers: "sum",
    read: () => oneSample(process.memoryUsage().heapUsed),
  },
  {
    name: "process_open_fds",
    type: "gauge",
    help: "Open file descriptors, on Linux.",
    labels: [],
    workers: "sum",
    read: () =>
      readdir("/proc/self/fd").then(
        ({ length }) => oneSample(length),
        () => [],
      ),
  },
  {
    name: "process_start_time_seconds",
    type: "gauge",
    help: "When the process started, in seconds since the epoch.",
    labels: [],
    workers: "min",
    read: () => oneSample(Math.round(performance.timeOrigin / 1000)),
  },
];

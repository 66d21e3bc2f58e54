/**
 * The cost of metrics, traces and the log. Run by hand: `npm run bench:observability`; takes about a minute, and needs
 * redis-server and taskset.
 * - The processor time of a grant over gRPC, at servers that alternate in one run, each as a ratio to the server that has
 *   none of the three.
 * - What one call records, what a place that may start a span takes while tracing is off, what the watch on event loop
 *   and garbage collector costs, and one scrape, timed in this process.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { startProcessMeasures } from "../../src/metrics/process-measures.ts";
import { createCallCounts } from "../../src/pipeline/call-counts.ts";
import { addRoundTrip, createRoundTrips } from "../../src/shared/measures.ts";
import { trace } from "../../src/shared/tracing.ts";
import { freePort } from "../support/port.ts";
import { median } from "./fixture.ts";
import { openQuotaCalls } from "./rivals/calls.ts";
import { startFixture } from "./rivals/fixture.ts";
import { cpuSeconds, moveAside, type Server } from "./rivals/processes.ts";

const callsPerSecond = 5000;
/** The usual interval of Prometheus. */
const scrapeSeconds = 15;
const callers = 64;
const rounds = Number(process.env.ROUNDS ?? 24);
const callsPerRound = 800;
/** The rounds of a part: each has a ratio of its own, which shows how far the ratio can be trusted. */
const parts = 4;

process.setMaxListeners(100);
moveAside(process.pid);
const recordingMicros = timeRecording();
console.log(
  `metrics: recording one call takes ${recordingMicros.toFixed(3)} µs, ${shareOf(recordingMicros)} of a core at ${callsPerSecond} calls a second`,
);
console.log(`metrics: watching the event loop takes ${(await measureWatching()).toFixed(3)} % of a core`);
const offMicros = await timeTracingOff();
console.log(`traces: a place that may start a span takes ${offMicros.toFixed(3)} µs while tracing is off`);

const collector = createServer((request, response) => request.resume().once("end", () => response.end("{}")));
await new Promise<void>((done) => collector.listen(0, "127.0.0.1", done));
const collectorUrl = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
const metricsPort = await freePort();
const metricsUrl = `http://127.0.0.1:${metricsPort}/metrics`;
const kinds: Readonly<Record<string, Record<string, string>>> = {
  metrics: { METRICS_PORT: String(metricsPort) },
  traces: { OTEL_EXPORTER_OTLP_ENDPOINT: collectorUrl },
  log: { LOG_LEVEL: "info" },
};
const fixture = await startFixture();
const servers = new Map<string, Server>([["none", fixture.server]]);
try {
  for (const [kind, settings] of Object.entries(kinds)) servers.set(kind, await fixture.startService(settings));
  const scraping = setInterval(() => void fetch(metricsUrl).then((response) => response.text()), 1000);
  await compareServers();
  clearInterval(scraping);
  const { milliseconds, bytes } = await timeScrape();
  const share = milliseconds / 10 / scrapeSeconds;
  console.log(
    `metrics: one scrape takes ${milliseconds.toFixed(1)} ms and ${bytes} bytes, ${share.toFixed(3)} % of a core at one in ${scrapeSeconds} s`,
  );
} finally {
  for (const [kind, server] of servers) if (kind !== "none") await server.stop();
  await fixture.stop();
}
process.exit(0);

/**
 * Prints the processor time of a grant at each server. Rounds are short, so that other work on the machine slows all
 * servers alike. The first one warms up.
 */
async function compareServers(): Promise<void> {
  const opened = await Promise.all(
    [...servers].map(async ([kind, server]) => ({
      kind,
      server,
      calls: await openQuotaCalls(server.url, fixture.token),
      micros: [] as number[],
    })),
  );
  for (let round = 0; round <= rounds; round += 1) {
    for (const { server, calls, micros } of opened) {
      let left = callsPerRound;
      const caller = async (_none: unknown, index: number) => {
        while ((left -= 1) >= 0) await calls.grant(index);
      };
      const before = cpuSeconds(server);
      await Promise.all(Array.from({ length: callers }, caller));
      if (round > 0) micros.push(((cpuSeconds(server) - before) / callsPerRound) * 1e6);
    }
  }
  const none = opened[0]?.micros ?? [];
  const sum = (times: readonly number[]) => times.reduce((total, time) => total + time, 0);
  const size = Math.ceil(rounds / parts);
  for (const { kind, micros } of opened) {
    const ratios = Array.from({ length: parts }, (_none, part) => {
      const [own, other] = [micros, none].map((times) => sum(times.slice(part * size, (part + 1) * size)));
      return (own ?? 0) / (other ?? 0);
    });
    const [least, most] = [Math.min(...ratios), Math.max(...ratios)].map((ratio) => ratio.toFixed(3));
    console.log(
      `${kind}: a grant takes ${(sum(micros) / rounds).toFixed(1)} µs, ratio ${(sum(micros) / sum(none)).toFixed(3)} (${least} to ${most} in ${parts} parts)`,
    );
  }
}

function shareOf(micros: number): string {
  return `${((micros * callsPerSecond) / 1e4).toFixed(3)} %`;
}

/** Returns the microseconds that a call and its round trip to Redis take to record, clock reads included. */
function timeRecording(): number {
  const calls = createCallCounts();
  const trips = createRoundTrips();
  const times = Array.from({ length: 7 }, () => {
    const startedMs = performance.now();
    for (let count = 0; count < 1e6; count += 1) {
      const callMs = performance.now();
      addRoundTrip(trips, performance.now(), false);
      calls.count(QuotaService.method.acquireQuota, "grpc", 0, callMs);
    }
    return performance.now() - startedMs;
  });
  // Milliseconds of a million calls are nanoseconds of one.
  return median(times) / 1000;
}

/** Returns the microseconds that `trace` takes while tracing is off, beside the work alone. */
async function timeTracingOff(): Promise<number> {
  const work = () => Promise.resolve();
  const timed = async (run: () => Promise<void>) => {
    const startedMs = performance.now();
    for (let count = 0; count < 1e6; count += 1) await run();
    return performance.now() - startedMs;
  };
  const differences: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    const alone = await timed(work);
    differences.push((await timed(() => trace("work", { "tollgate.requests": round }, work))) - alone);
  }
  return median(differences) / 1000;
}

/** Returns the share of a core that an idle process needs more while it watches its event loop, in percent. */
async function measureWatching(): Promise<number> {
  const seconds = 1.5;
  const idle = async () => {
    const before = process.cpuUsage();
    await wait(seconds * 1000);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e4 / seconds;
  };
  // Work of the start must have ended.
  await idle();
  const differences: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    const without = await idle();
    const measures = startProcessMeasures();
    differences.push((await idle()) - without);
    measures.stop();
  }
  return median(differences);
}

/** Returns the time from the request to the last byte, of which most is the server's. */
async function timeScrape() {
  const times: number[] = [];
  let bytes = 0;
  for (let count = 0; count < 20; count += 1) {
    // The leases are read from PostgreSQL at most once a second.
    if (count === 0) await wait(1100);
    const startedMs = performance.now();
    bytes = (await (await fetch(metricsUrl)).text()).length;
    times.push(performance.now() - startedMs);
  }
  return { milliseconds: median(times), bytes };
}

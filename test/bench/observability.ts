/**
 * The cost of metrics. Run by hand: `npm run bench:metrics`; takes about two minutes, and needs redis-server.
 * - What one call records, what the watch on event loop and garbage collector costs, and one scrape, timed in this process.
 * - The processor time of a grant over gRPC at servers with and without metrics, which alternate in one run. Another
 *   program that uses the same core blurs this ratio by more than the cost.
 */
import { setTimeout as wait } from "node:timers/promises";
import { QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { startProcessMeasures } from "../../src/metrics/process-measures.ts";
import { createCallCounts } from "../../src/pipeline/call-counts.ts";
import { addRoundTrip, createRoundTrips } from "../../src/shared/measures.ts";
import { compare, load } from "./rivals/measure.ts";
import { freePort } from "./rivals/processes.ts";
import { startFixture } from "./rivals/stand.ts";
import { median } from "./stand.ts";

const callsPerSecond = 5000;
/** The usual interval of Prometheus. */
const scrapeSeconds = 15;
const callers = 64;

process.setMaxListeners(100);
const recordingMicros = timeRecording();
console.log(`recording one call: ${recordingMicros.toFixed(3)} µs, median of 20 rounds of 1,000,000`);
console.log(
  `  = ${((recordingMicros * callsPerSecond) / 1e4).toFixed(3)} % of a core at ${callsPerSecond} calls a second`,
);
const watching = await measureWatching();
console.log(`watching the event loop: ${watching.toFixed(3)} % of a core`);

const port = await freePort();
const metrics = `http://127.0.0.1:${port}/metrics`;
const fixture = await startFixture();
const measured = await fixture.startService({ METRICS_PORT: String(port) });
try {
  const scraping = setInterval(() => void fetch(metrics).then((response) => response.text()), 1000);
  const grants = (url: string) => () => load("grants", url, fixture.token, callers);
  const speeds = await compare([
    { name: "without", load: grants(fixture.server.url), server: fixture.server },
    { name: "with", load: grants(measured.url), server: measured },
  ]);
  clearInterval(scraping);
  const microsOf = (name: string) => 1e6 / (speeds.get(name)?.perCoreSecond ?? Number.NaN);
  const [without, withMetrics] = [microsOf("without"), microsOf("with")];
  console.log(`processor time of a grant: ${without.toFixed(1)} µs without, ${withMetrics.toFixed(1)} µs with metrics`);
  console.log(`  ratio ${(withMetrics / without).toFixed(3)}, scraped each second`);
  const { milliseconds, bytes } = await timeScrape();
  console.log(`one scrape: ${milliseconds.toFixed(1)} ms, ${bytes} bytes`);
  console.log(`  = ${(milliseconds / 10 / scrapeSeconds).toFixed(3)} % of a core at one in ${scrapeSeconds} s`);
} finally {
  await measured.stop();
  await fixture.stop();
}
process.exit(0);

/** Returns the microseconds that a call and its round trip to Redis take to record, clock reads included. */
function timeRecording(): number {
  const calls = createCallCounts();
  const trips = createRoundTrips();
  const rounds = Array.from({ length: 20 }, () => {
    const startedMs = performance.now();
    for (let count = 0; count < 1e6; count += 1) {
      const callMs = performance.now();
      addRoundTrip(trips, performance.now(), false);
      calls.count(QuotaService.method.acquireQuota, "grpc", 0, callMs);
    }
    return performance.now() - startedMs;
  });
  // Milliseconds of a million calls are nanoseconds of one.
  return median(rounds) / 1000;
}

/** Returns the share of a core that an idle process needs more while it watches its event loop, in percent. */
async function measureWatching(): Promise<number> {
  const seconds = 3;
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
    bytes = (await (await fetch(metrics)).text()).length;
    times.push(performance.now() - startedMs);
  }
  return { milliseconds: median(times), bytes };
}

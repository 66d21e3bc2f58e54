import cluster from "node:cluster";
import type { Logger } from "pino";
import { noticesOf, startApp } from "./app/app.ts";
import { openLogger } from "./app/logger.ts";
import { metricsUrl, openMetricsListener } from "./app/metrics.ts";
import { answerMetrics } from "./app/worker-metrics.ts";
import { reportServing, startWorkers, type Workers } from "./app/workers.ts";
import { type Config, ConfigError, readConfig } from "./config.ts";

/** The running server, or the workers that each run one. */
interface Running {
  /** Resolves with the exit code. */
  readonly stop: () => Promise<number>;
  /** The longest time that `stop` may take. */
  readonly limitMs: number;
}

/** The exit codes of docs/operations.md, "Health and shutdown". A complete drain has 0. */
const exitCodes = { failed: 1, fault: 2, unwritten: 3 };
/** The time to close resources after the drain. */
const closeMs = 10_000;

let running: Running | undefined;
/** Why the server stops: a signal, a fault or a takeover. Undefined while it runs. */
let stopped: string | undefined;
/** Whether an error reached the handlers of last resort. */
let isFaulty = false;
let isTakenOver = false;
/** Logs the start and the stop. */
let notices: Logger | undefined;
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, stop);

try {
  const config = readConfig(process.env);
  const logger = await openLogger(config);
  // With WORKERS the parent process logs for all of them.
  if (!cluster.isWorker) notices = noticesOf(logger);
  notices?.info({ node: process.version, workers: config.WORKERS }, "server starting");
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error: unknown) => endFaulty(error, event, logger));
  }
  running =
    config.WORKERS > 1 && cluster.isPrimary ? await runWorkers(config, logger) : await runServer(config, logger);

  // A signal came during the start: close the opened resources in order.
  if (stopped !== undefined) end(running, stopped);
} catch (error) {
  fail(error instanceof ConfigError ? error.message : `Tollgate does not start: ${messageOf(error)}`);
}

async function runServer(config: Config, logger: Logger): Promise<Running> {
  const stopTracing = await startTracing(config, logger);
  const app = await startApp(config, {
    logger,
    now: Date.now,
    onFailure: fail,
    onTakeover,
    announce: console.error,
    onMetrics: cluster.isWorker ? answerMetrics : undefined,
  });
  if (cluster.isWorker) reportServing(app.started);
  notices?.info(app.started, "server started");
  return {
    stop: async () => {
      // A server that may not count, or that has failed, ends without a delay.
      const delayMs = isTakenOver || isFaulty ? 0 : config.DRAIN_DELAY_MS;
      const { unwritten } = await app.stop({ delayMs });
      await stopTracing();
      return unwritten > 0 ? exitCodes.unwritten : 0;
    },
    limitMs: config.DRAIN_DELAY_MS + config.DRAIN_MS + closeMs,
  };
}

async function runWorkers(config: Config, logger: Logger): Promise<Running> {
  const workers = await startWorkers({
    count: config.WORKERS,
    logger,
    endMs: config.DRAIN_DELAY_MS + config.DRAIN_MS + closeMs,
  });
  const metrics = await serveWorkerMetrics(config, workers, logger);
  notices?.info({ ...workers.started, metrics }, "server started");
  // Workers that do not end are killed after endMs.
  return { stop: workers.stop, limitMs: config.DRAIN_DELAY_MS + config.DRAIN_MS + 2 * closeMs };
}

/** Starts tracing if a collector is set. Its libraries take memory, so they are loaded only then. */
async function startTracing({ OTEL_EXPORTER_OTLP_ENDPOINT }: Config, logger: Logger): Promise<() => Promise<void>> {
  if (OTEL_EXPORTER_OTLP_ENDPOINT === "") return async () => undefined;
  const tracing = await import("./app/tracing.ts");
  return tracing.startTracing(logger);
}

/** Serves the metrics of all workers. Returns their address; undefined when METRICS_PORT is empty. */
async function serveWorkerMetrics(config: Config, workers: Workers, logger: Logger): Promise<string | undefined> {
  if (config.METRICS_PORT === undefined) return undefined;
  try {
    return metricsUrl(config, await openMetricsListener(config, workers.readMetrics, logger));
  } catch (error) {
    await workers.stop();
    throw error;
  }
}

/** Starts the drain once. A second signal is ignored: npm forwards signals that the terminal has sent to us as well. */
function stop(cause: string): void {
  if (stopped === undefined && running !== undefined) end(running, cause);
  stopped ??= cause;
}

function end({ stop: close, limitMs }: Running, cause: string): void {
  notices?.info({ cause, limitMs }, "server draining");
  // A silent connection must not keep the process running: all writes have had their time by then.
  setTimeout(() => fail("not everything was closed in time"), limitMs).unref();
  close().then(
    (code) => exit(isFaulty ? exitCodes.fault : isTakenOver ? exitCodes.failed : code),
    (error: unknown) => fail(String(error)),
  );
}

/** Drains and exits, because another server counts on the same database. */
function onTakeover(reason: string): void {
  console.error(reason);
  isTakenOver = true;
  stop("takeover");
}

/** Drains and exits after an unexpected error, because the state of the process is unknown. */
function endFaulty(error: unknown, event: string, logger: Logger): void {
  isFaulty = true;
  logger.fatal({ err: error, event }, "unexpected error; draining");
  stop("fault");
}

function fail(reason: string): never {
  console.error(reason);
  exit(isFaulty ? exitCodes.fault : exitCodes.failed);
}

function exit(exitCode: number): never {
  if (running !== undefined) notices?.info({ exitCode }, "server stopped");
  process.exit(exitCode);
}

/** Returns the message of an error. After several connection attempts, Node has it in the first of the causes. */
function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return messageOf(error.errors[0]);
  return error instanceof Error ? error.message : String(error);
}

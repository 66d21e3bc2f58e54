import cluster from "node:cluster";
import pino, { type Logger } from "pino";
import { type Config, ConfigError, readConfig } from "./config.ts";
import { startApp } from "./server/app.ts";
import { startWorkers, tellServing } from "./server/workers.ts";

/** What this process runs: the server, or the workers that are one each. */
interface Running {
  readonly stop: () => Promise<void>;
}

/** Beyond the drain: for what a worker closes after it. */
const closeMs = 10_000;

let running: Running | undefined;
let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, stop);

try {
  const config = readConfig(process.env);
  const logger = pino({ level: config.LOG_LEVEL, base: { server: config.SERVER_NAME } });
  running =
    config.WORKERS > 1 && cluster.isPrimary ? await runWorkers(config, logger) : await runServer(config, logger);

  // The signal came while the start was under way: what was opened is closed in order.
  if (stopping) end(running);
} catch (error) {
  fail(error instanceof ConfigError ? error.message : `Tollgate does not start: ${messageOf(error)}`);
}

async function runServer(config: Config, logger: Logger): Promise<Running> {
  const app = await startApp(config, { logger, now: Date.now, onFailure: fail, announce: console.log });
  if (cluster.isWorker) tellServing(app.greeting);
  else console.log(app.greeting.join("\n"));
  return app;
}

async function runWorkers(config: Config, logger: Logger): Promise<Running> {
  const workers = await startWorkers({ count: config.WORKERS, logger, endMs: config.DRAIN_MS + closeMs });
  console.log(workers.greeting.join("\n"));
  return workers;
}

/** A second signal comes from somebody in a hurry, or from npm, which passes on what the terminal sent us too. */
function stop(): void {
  if (!stopping && running !== undefined) end(running);
  stopping = true;
}

function end({ stop: close }: Running): void {
  close().then(
    () => process.exit(0),
    (error: unknown) => fail(String(error)),
  );
}

function fail(reason: string): never {
  console.error(reason);
  process.exit(1);
}

/** One line: where several addresses were tried, Node's error has its text in the first of its causes. */
function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return messageOf(error.errors[0]);
  return error instanceof Error ? error.message : String(error);
}

import pino from "pino";
import { ConfigError, readConfig } from "./config.ts";
import { type App, startApp } from "./server/app.ts";

let app: App | undefined;
let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, stop);

try {
  const config = readConfig(process.env);
  const logger = pino({ level: config.LOG_LEVEL, base: { server: config.SERVER_NAME } });
  app = await startApp(config, { logger, now: Date.now, onFailure: fail, announce: console.log });
  console.log(app.greeting.join("\n"));

  // The signal came while the start was under way: what was opened is closed in order.
  if (stopping) end(app);
} catch (error) {
  fail(error instanceof ConfigError ? error.message : `Tollgate does not start: ${messageOf(error)}`);
}

/** A second signal comes from somebody in a hurry, or from npm, which passes on what the terminal sent us too. */
function stop(): void {
  if (!stopping && app !== undefined) end(app);
  stopping = true;
}

function end(running: App): void {
  running.stop().then(
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

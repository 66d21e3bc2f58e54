import { readFileSync } from "node:fs";
import pino from "pino";
import { noticesOf, startApp } from "../../src/app/app.ts";
import { readConfig } from "../../src/config.ts";

/**
 * The whole server as a process whose clocks a test moves: CLOCK_FILES names two files with an offset in milliseconds.
 * The first moves the clock that all servers see in Redis, the second this server's own on top of it.
 */
const files = (process.env["CLOCK_FILES"] ?? "").split(",");
/** Every decision needs the time; a file is read at most once in this time. */
const freshMs = 2;
let readMs = Number.NEGATIVE_INFINITY;
let offsets = { redis: 0, own: 0 };

function offset(): typeof offsets {
  if (performance.now() - readMs < freshMs) return offsets;
  readMs = performance.now();
  const [redis = 0, own = 0] = files.map((file) => Number(readFileSync(file, "utf8")));
  offsets = { redis, own };
  return offsets;
}

const end = (reason: string) => {
  console.error(reason);
  process.exit(1);
};
const logger = pino({ level: process.env["LOG_LEVEL"] ?? "info" });
const app = await startApp(readConfig(process.env), {
  logger,
  announce: () => undefined,
  now: () => Date.now() + offset().redis + offset().own,
  redisNow: () => Date.now() + offset().redis,
  onFailure: end,
  onTakeover: end,
});
/** The exit codes are those of src/main.ts. */
const stop = async () => process.exit((await app.stop()).unwritten > 0 ? 3 : 0);
process.once("SIGTERM", () => void stop().catch((error: unknown) => end(String(error))));
noticesOf(logger).info(app.started, "server started");

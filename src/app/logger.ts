import pino, { type DestinationStream, type Logger, type LoggerOptions } from "pino";
import type { Config } from "../config.ts";
import { currentTracer } from "../shared/tracing.ts";

/** Opens the log on standard output, in the form of LOG_FORMAT. */
export async function openLogger(config: Config): Promise<Logger> {
  const isPretty = config.LOG_FORMAT === "auto" ? process.stdout.isTTY : config.LOG_FORMAT === "pretty";
  return pino(loggerOptions(config), isPretty ? await openPretty() : joinLines(pino.destination(1)));
}

/** The largest write that a pipe takes as one piece. The lines of several workers must not mix. */
const maxWrite = 4096;

/** Writes the lines of one turn of the event loop together: a write takes as long as the line itself. */
export function joinLines(output: DestinationStream): DestinationStream {
  let lines = "";
  const flush = () => {
    if (lines !== "") output.write(lines);
    lines = "";
  };
  // The process may exit in the middle of a turn.
  process.on("exit", flush);
  return {
    write(line) {
      if (lines.length + line.length > maxWrite) flush();
      if (lines === "") setImmediate(flush);
      lines += line;
    },
  };
}

/** Returns the options of the log: level, name of the server, and errors without secrets. */
export function loggerOptions(config: Config): LoggerOptions {
  return {
    level: config.LOG_LEVEL,
    base: { server: config.SERVER_NAME },
    serializers: { err: (error: unknown) => toLoggedError(error) },
    ...(config.OTEL_EXPORTER_OTLP_ENDPOINT !== "" && { mixin: () => currentTracer()?.currentIds() ?? {} }),
  };
}

async function openPretty(): Promise<DestinationStream> {
  const { default: pretty } = await import("pino-pretty");
  return pretty({ sync: true, singleLine: true, ignore: "pid,hostname,server", translateTime: "SYS:HH:MM:ss.l" });
}

interface LoggedError {
  readonly type: string;
  readonly message: string;
  readonly code?: unknown;
  readonly stack?: string | undefined;
  readonly table?: unknown;
  readonly constraint?: unknown;
  readonly cause?: LoggedError;
}

/** The causes of an error that are logged. */
const maxCauses = 5;

/**
 * Returns the properties of an error that never hold a secret or what a caller sent. Errors of Redis have the command
 * with its values, the password too; errors of PostgreSQL have the values of rows in `detail`.
 */
function toLoggedError(error: unknown, causes = maxCauses): LoggedError {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) };
  const { name, message, stack, cause } = error;
  const { code, table, constraint } = error as { code?: unknown; table?: unknown; constraint?: unknown };
  // After several connection attempts, Node has the message in the first error.
  const [first] = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  const inner = cause ?? first;
  return {
    type: name,
    message,
    code,
    stack,
    table,
    constraint,
    ...(inner !== undefined && causes > 0 && { cause: toLoggedError(inner, causes - 1) }),
  };
}

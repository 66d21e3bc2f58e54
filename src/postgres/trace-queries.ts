import type pg from "pg";
import { currentTracer } from "../shared/tracing.ts";

interface NamedText {
  readonly name?: string;
  readonly text: string;
}

type Callback = (error: Error | null, result: unknown) => void;
type Query = (config: unknown, callback: unknown) => unknown;

/**
 * Starts a span for each statement of a connection that runs within another span, if tracing is on. Values of parameters
 * are not recorded.
 */
export function traceQueries(client: pg.Client): void {
  const tracer = currentTracer();
  if (tracer === undefined) return;
  const query = client.query.bind(client) as Query;
  const traced: Query = (config, callback) => {
    // Knex and statements.ts pass a callback. A statement without one is sent untraced.
    if (typeof callback !== "function" || tracer.currentIds() === undefined) return query(config, callback);
    const { name, text } = typeof config === "string" ? { text: config } : (config as NamedText);
    const span = tracer.startChild(name ?? firstWord(text), { "db.system.name": "postgresql", "db.query.text": text });
    return query(config, (error: Error | null, result: unknown) => {
      span.end({}, error ?? undefined);
      (callback as Callback)(error, result);
    });
  };
  Object.assign(client, { query: traced });
}

function firstWord(text: string): string {
  return /\w+/.exec(text)?.[0].toUpperCase() ?? "";
}

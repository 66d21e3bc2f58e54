import type pg from "pg";
import { addRoundTrip, type RoundTrips } from "../shared/measures.ts";
import { currentTracer } from "../shared/tracing.ts";

/** Called when a query starts. Returns a function to call when it has ended, or undefined to ignore the query. */
type QueryObserver = (config: unknown) => ((error: unknown) => void) | undefined;

type Callback = (error: unknown, result: unknown) => void;

/** Measures every query of a connection except COPY: statements, and the begin and commit of transactions. */
export function measureQueries(client: pg.Client, trips: RoundTrips): void {
  observeQueries(client, () => {
    const startedMs = performance.now();
    return (error) => addRoundTrip(trips, startedMs, Boolean(error));
  });
}

/**
 * Starts a span for each statement of a connection that runs within another span, if tracing is on. Values of parameters
 * are not recorded.
 */
export function traceQueries(client: pg.Client): void {
  const tracer = currentTracer();
  if (tracer === undefined) return;
  observeQueries(client, (config) => {
    const statement = statementOf(config);
    if (statement === undefined || tracer.currentIds() === undefined) return undefined;
    const { name, text } = statement;
    const span = tracer.startChild(name ?? firstWord(text), { "db.system.name": "postgresql", "db.query.text": text });
    return (error) => span.end({}, error ?? undefined);
  });
}

function observeQueries(client: pg.Client, observe: QueryObserver): void {
  const query = client.query.bind(client) as (...parameters: unknown[]) => unknown;
  const observed = (...parameters: unknown[]): unknown => {
    const end = observe(parameters[0]);
    if (end === undefined) return query(...parameters);
    const callback = parameters.at(-1);
    if (typeof callback === "function") {
      const observedCallback: Callback = (error, result) => {
        end(error);
        (callback as Callback)(error, result);
      };
      return query(...parameters.slice(0, -1), observedCallback);
    }
    const result = query(...parameters);
    // COPY returns a stream.
    if (result instanceof Promise) result.then(() => end(undefined), end);
    return result;
  };
  client.query = observed as typeof client.query;
}

interface NamedText {
  readonly name?: string;
  readonly text: string;
}

/** Returns the statement of a query. Undefined for COPY, which sends itself. */
function statementOf(config: unknown): NamedText | undefined {
  if (typeof config === "string") return { text: config };
  return typeof (config as pg.Submittable).submit === "function" ? undefined : (config as NamedText);
}

function firstWord(text: string): string {
  return /\w+/.exec(text)?.[0].toUpperCase() ?? "";
}

import type pg from "pg";
import { addRoundTrip, type RoundTrips } from "../shared/measures.ts";

type Callback = (error: unknown, result: unknown) => void;

/** Measures every query of a connection except COPY: statements, and the begin and commit of transactions. */
export function measureQueries(client: pg.Client, trips: RoundTrips): void {
  const query = client.query.bind(client) as (...parameters: unknown[]) => unknown;
  const measured = (...parameters: unknown[]): unknown => {
    const startedMs = performance.now();
    const callback = parameters.at(-1);
    if (typeof callback === "function") {
      const measuredCallback: Callback = (error, result) => {
        addRoundTrip(trips, startedMs, Boolean(error));
        (callback as Callback)(error, result);
      };
      return query(...parameters.slice(0, -1), measuredCallback);
    }
    const result = query(...parameters);
    // COPY returns a stream.
    if (!(result instanceof Promise)) return result;
    result.then(
      () => addRoundTrip(trips, startedMs, false),
      () => addRoundTrip(trips, startedMs, true),
    );
    return result;
  };
  client.query = measured as typeof client.query;
}

/** Counts of values by range. Its fields are plain numbers, so that adding a value takes nanoseconds. */
export interface Histogram {
  /** Upper bounds, ascending. Each includes its value. */
  readonly bounds: readonly number[];
  /** The number of values in each range, and last the number beyond the last bound. */
  readonly counts: number[];
  sum: number;
}

/** Seconds: from a decision in memory to the longest statement. */
export const secondsBounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

/** Creates an empty histogram. `bounds` are the upper bounds of its buckets, ascending; seconds by default. */
export function createHistogram(bounds: readonly number[] = secondsBounds): Histogram {
  return { bounds, counts: Array.from({ length: bounds.length + 1 }, () => 0), sum: 0 };
}

/** Adds a value, in the unit of the bounds. */
export function addValue(histogram: Histogram, value: number): void {
  const { bounds, counts } = histogram;
  let index = 0;
  while (index < bounds.length && value > (bounds[index] as number)) index += 1;
  counts[index] = (counts[index] as number) + 1;
  histogram.sum += value;
}

/** The round trips to a server. */
export interface RoundTrips {
  /** The duration of every round trip, failed ones included. */
  readonly seconds: Histogram;
  errors: number;
}

/** Creates the measures of round trips, all zero. */
export function createRoundTrips(): RoundTrips {
  return { seconds: createHistogram(), errors: 0 };
}

/** Awaits one round trip and adds it. */
export async function measureRoundTrip<Result>(trips: RoundTrips, work: Promise<Result>): Promise<Result> {
  const startedMs = performance.now();
  let isError = true;
  try {
    const result = await work;
    isError = false;
    return result;
  } finally {
    addRoundTrip(trips, startedMs, isError);
  }
}

/**
 * Adds a round trip that ends now.
 * @param startedMs when it was sent, by performance.now()
 */
export function addRoundTrip(trips: RoundTrips, startedMs: number, isError: boolean): void {
  addValue(trips.seconds, (performance.now() - startedMs) / 1000);
  if (isError) trips.errors += 1;
}

import { median, quantile } from "../fixture.ts";

export interface LoopSize {
  readonly seconds: number;
  readonly callers: number;
}

/** Runs callers with one call at a time. `done` sums what the calls return; times of a call are in milliseconds. */
export async function runClosedLoop({ seconds, callers }: LoopSize, work: (caller: number) => Promise<number>) {
  const started = performance.now();
  const times: number[] = [];
  let done = 0;
  const caller = async (_none: unknown, index: number) => {
    while (performance.now() < started + seconds * 1000) {
      const sent = performance.now();
      const more = await work(index);
      times.push(performance.now() - sent);
      // Two statements: with one, additions of other callers during the await would be lost.
      done += more;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  const rate = (done * 1000) / (performance.now() - started);
  return { done, rate, p50: median(times), p99: quantile(times, 0.99) };
}

import type { Line } from "../history/records.ts";

/** What Redis' clock may have shown: between a jump's beginning and its end it is the time before or the one after. */
export interface Clock {
  /** The latest and the earliest time that a reading between these two moments may have shown. */
  most(from: number, to: number): number;
  least(from: number, to: number): number;
  /** The first moment, not before `from`, when any reading may have shown this time. Readings take a while to count. */
  mayReach(timeMs: number, from: number): number;
  /** The moments from `from` on at which a reading may still have shown an earlier time. */
  mayPrecede(timeMs: number, from: number): Span[];
}

export interface Span {
  readonly from: number;
  readonly to: number;
}

interface Segment extends Span {
  readonly offsetMs: number;
}

/** The longest from the reading of a clock to the moment when what was decided by it counts: a call's deadline. */
const readingMs = 10_000;
/** How exactly servers of one machine read one clock. */
const fuzzMs = 50;

export function createClock(lines: readonly Line[]): Clock {
  const segments: Segment[] = [];
  for (const line of lines) {
    if (line.call === "start")
      segments.push({ from: Number.NEGATIVE_INFINITY, to: Number.POSITIVE_INFINITY, offsetMs: line.baseMs });
    if (line.call !== "clock") continue;
    const last = segments.pop() as Segment;
    segments.push(
      { ...last, to: line.answered },
      { from: line.sent, to: Number.POSITIVE_INFINITY, offsetMs: line.offsetMs },
    );
  }
  const during = (from: number, to: number) => segments.filter((one) => one.from <= to && from <= one.to);

  return {
    most: (from, to) => Math.max(...during(from, to).map((one) => Math.min(to, one.to) + one.offsetMs)) + fuzzMs,
    least: (from, to) => Math.min(...during(from, to).map((one) => Math.max(from, one.from) + one.offsetMs)) - fuzzMs,
    mayReach(timeMs, from) {
      const early = from - readingMs;
      let first = Number.POSITIVE_INFINITY;
      for (const one of during(early, Number.POSITIVE_INFINITY)) {
        const at = Math.max(timeMs - fuzzMs - one.offsetMs, one.from, early);
        if (at <= one.to) first = Math.min(first, at);
      }
      return Math.max(first, from);
    },
    mayPrecede(timeMs, from) {
      return during(from, Number.POSITIVE_INFINITY).flatMap((one) => {
        const [begin, end] = [Math.max(from, one.from), Math.min(one.to, timeMs + fuzzMs - one.offsetMs)];
        return begin < end ? [{ from: begin, to: end }] : [];
      });
    },
  };
}

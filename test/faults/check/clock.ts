import type { Line } from "../history/records.ts";

/** The times that Redis' clock may have shown. During a jump it is the time before or the time after. */
export interface Clock {
  /** The latest and the earliest time that a reading between these two moments may have shown. */
  most(from: number, to: number): number;
  least(from: number, to: number): number;
  /** The first moment, not before `from`, when any reading may have shown this time. Readings take a while to count. */
  mayReach(timeMs: number, from: number): number;
  /** Returns the spans, from `from` on, in which a reading may still have shown an earlier time. */
  mayPrecede(timeMs: number, from: number): Span[];
}

export interface Span {
  readonly from: number;
  readonly to: number;
}

interface Segment extends Span {
  readonly offsetMs: number;
}

/** The maximum time between a clock reading and the effect of its decision: a call's deadline. */
const readingMs = 10_000;
/** The clock error between servers of one machine, in milliseconds. */
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
  const during = (from: number, to: number) => segments.filter((segment) => segment.from <= to && from <= segment.to);

  return {
    most: (from, to) =>
      Math.max(...during(from, to).map((segment) => Math.min(to, segment.to) + segment.offsetMs)) + fuzzMs,
    least: (from, to) =>
      Math.min(...during(from, to).map((segment) => Math.max(from, segment.from) + segment.offsetMs)) - fuzzMs,
    mayReach(timeMs, from) {
      const early = from - readingMs;
      let first = Number.POSITIVE_INFINITY;
      for (const segment of during(early, Number.POSITIVE_INFINITY)) {
        const at = Math.max(timeMs - fuzzMs - segment.offsetMs, segment.from, early);
        if (at <= segment.to) first = Math.min(first, at);
      }
      return Math.max(first, from);
    },
    mayPrecede(timeMs, from) {
      return during(from, Number.POSITIVE_INFINITY).flatMap((segment) => {
        const [begin, end] = [Math.max(from, segment.from), Math.min(segment.to, timeMs + fuzzMs - segment.offsetMs)];
        return begin < end ? [{ from: begin, to: end }] : [];
      });
    },
  };
}

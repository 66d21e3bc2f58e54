import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { invalid } from "./errors.ts";

/** A calendar day, in days since 1970-01-01. */
export type Day = number;

/** Microseconds since the epoch: the precision of PostgreSQL, and an exact number until the year 2255. */
export type Micros = number;

export const hourMs = 3_600_000;
export const dayMs = 24 * hourMs;
export const hourMicros = hourMs * 1000;
export const dayMicros = dayMs * 1000;

/** Returns the calendar day at an offset in hours from UTC. */
export function dayAt(nowMs: number, timezone: number): Day {
  return Math.floor((nowMs + timezone * hourMs) / dayMs);
}

/** Returns the month of a day. `to` is excluded. */
export function monthOf(day: Day): { from: Day; to: Day } {
  const date = new Date(day * dayMs);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return { from: Date.UTC(year, month) / dayMs, to: Date.UTC(year, month + 1) / dayMs };
}

/** Writes a day as YYYY-MM-DD. Such texts sort like their days. */
export function toIsoDay(day: Day): string {
  return new Date(day * dayMs).toISOString().slice(0, 10);
}

/**
 * Checks a day written YYYY-MM-DD and returns the text.
 * @param field path of the request's field, for the error
 * @throws INVALID_REQUEST when the text has another form, or the calendar has no such day (2026-02-30)
 */
export function parseDay(field: string, text: string): string {
  const time = Date.parse(`${text}T00:00:00Z`);
  if (Number.isNaN(time) || text < "0001-01-01" || new Date(time).toISOString().slice(0, 10) !== text) {
    throw invalid({ field, message: `must be a valid date (YYYY-MM-DD): ${text}` });
  }
  return text;
}

/** Returns the microsecond that holds the time; nanoseconds are rounded down. */
export function microsOf({ seconds, nanos }: Timestamp): Micros {
  return Number(seconds) * 1_000_000 + Math.floor(nanos / 1000);
}

/** Makes the message itself: create() takes most of the time, and an answer to a batch has hundreds of them. */
export function toTimestamp(micros: Micros): Timestamp {
  const seconds = Math.floor(micros / 1_000_000);
  return {
    $typeName: "google.protobuf.Timestamp",
    seconds: BigInt(seconds),
    nanos: (micros - seconds * 1_000_000) * 1000,
  };
}

/** Writes a time in UTC in the ISO 8601 form that PostgreSQL reads, with six decimals. */
export function toIsoTime(micros: Micros): string {
  const ms = Math.floor(micros / 1000);
  return new Date(ms).toISOString().replace("Z", `${String(micros - ms * 1000).padStart(3, "0")}Z`);
}

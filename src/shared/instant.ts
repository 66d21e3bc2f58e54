import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";

/** Microseconds since the epoch: what PostgreSQL keeps of a time, and exact in a number until the year 2255. */
export type Micros = number;

export const hourMicros = 3_600_000_000;
export const dayMicros = 24 * hourMicros;

/** The microsecond in which a time lies. */
export function microsOf({ seconds, nanos }: Timestamp): Micros {
  return Number(seconds) * 1_000_000 + Math.floor(nanos / 1000);
}

export function toTimestamp(micros: Micros): Timestamp {
  const time = timestampFromMs(Math.floor(micros / 1000));
  time.nanos += (micros - Math.floor(micros / 1000) * 1000) * 1000;
  return time;
}

/** As PostgreSQL reads it, in UTC. */
export function toIsoTime(micros: Micros): string {
  const ms = Math.floor(micros / 1000);
  return new Date(ms).toISOString().replace("Z", `${String(micros - ms * 1000).padStart(3, "0")}Z`);
}

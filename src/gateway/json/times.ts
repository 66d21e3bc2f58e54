/** Whether a text is an existing RFC 3339 time in the range of google.protobuf.Timestamp. */
export function isTimestamp(text: string): boolean {
  const match = /^(\d{4}-\d\d-\d\dT(\d\d):\d\d:\d\d)(?:\.\d{1,9})?(Z|[+-](\d\d):(\d\d))$/.exec(text);
  if (match === null) return false;
  const [, local = "", , zone = "Z", offsetHours = "0", offsetMinutes = "0"] = match;
  const localMs = Date.parse(`${local}Z`);
  // Date.parse reads 31 September and 24:00 as the next day.
  if (Number.isNaN(localMs) || !new Date(localMs).toISOString().startsWith(local)) return false;
  if (Number(offsetHours) > 23 || Number(offsetMinutes) > 59) return false;
  const offsetMs = (Number(offsetHours) * 60 + Number(offsetMinutes)) * 60_000;
  const ms = zone.startsWith("-") ? localMs + offsetMs : localMs - offsetMs;
  return ms >= earliestMs && ms <= latestMs;
}

const earliestMs = Date.parse("0001-01-01T00:00:00Z");
const latestMs = Date.parse("9999-12-31T23:59:59Z");

export const timestampRule = "must be a valid RFC 3339 time, such as 2024-02-29T09:30:00Z";

/**
 * Converts a duration into the form that protobuf-es reads, "5400s"; undefined when the text is not a duration. It also
 * accepts ISO 8601 ("PT1H30M") with weeks, days of 24 hours, hours, minutes and seconds. Years and months have no fixed
 * length.
 */
export function normalizeDuration(text: string): string | undefined {
  const plain = /^-?(\d+)(?:\.(\d{1,9}))?s$/.exec(text);
  if (plain !== null) return isInRange(Number(plain[1]), plain[2]) ? text : undefined;
  const match = isoDuration.exec(text);
  if (match === null) return undefined;
  const [, sign = "", weeks, days, hours, minutes, whole, fraction] = match;
  const units = [
    [weeks, 604_800],
    [days, 86_400],
    [hours, 3600],
    [minutes, 60],
    [whole, 1],
  ] as const;
  const seconds = units.reduce((sum, [count, length]) => sum + Number(count ?? 0) * length, 0);
  if (!isInRange(seconds, fraction)) return undefined;
  return `${sign}${seconds}${fraction === undefined ? "" : `.${fraction}`}s`;
}

export const durationRule = "must be a duration in seconds or ISO 8601, such as 90.5s or PT1M30.5S";

/** JSON Schema pattern of the durations that requests may have: ISO 8601, or protobuf's seconds. */
export const durationPattern =
  "^(-?P(?=\\w)(\\d+W)?(\\d+D)?(T(?=\\d)(\\d+H)?(\\d+M)?(\\d+([.,]\\d{1,9})?S)?)?|-?\\d+(\\.\\d{1,9})?s)$";

/** JSON Schema pattern of the durations in responses: ISO 8601 in hours, minutes and seconds. */
export const writtenDurationPattern = "^-?PT(?=\\d)(\\d+H)?(\\d+M)?(\\d+(\\.\\d{1,9})?S)?$";

/** Converts protobuf's form of a duration into ISO 8601: "20.5s" → "PT20.5S". */
export function toIsoDuration(seconds: string): string {
  const parts = /^(-?)(\d+)(\.\d+)?s$/.exec(seconds);
  if (parts === null) return seconds;
  const [, sign = "", digits = "0", fraction = ""] = parts;
  const whole = BigInt(digits);
  const [hours, minutes, rest] = [whole / 3600n, (whole / 60n) % 60n, whole % 60n];
  const last = rest === 0n && fraction === "" && whole > 0n ? "" : `${rest}${fraction}S`;
  return `${sign}PT${hours > 0n ? `${hours}H` : ""}${minutes > 0n ? `${minutes}M` : ""}${last}`;
}

const isoDuration =
  /^(-?)P(?=\d|T\d)(?:(\d+)W)?(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:[.,](\d{1,9}))?S)?)?$/;

/** 10,000 years, the range of google.protobuf.Duration. */
const longestSeconds = 315_576_000_000;

function isInRange(seconds: number, fraction = "0"): boolean {
  return seconds < longestSeconds || (seconds === longestSeconds && /^0+$/.test(fraction));
}

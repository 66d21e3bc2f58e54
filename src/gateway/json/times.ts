/** Whether a text is an RFC 3339 time that exists and that a google.protobuf.Timestamp can hold. */
export function isTimestamp(text: string): boolean {
  const match = /^(\d{4}-\d\d-\d\dT(\d\d):\d\d:\d\d)(?:\.\d{1,9})?(Z|[+-](\d\d):(\d\d))$/.exec(text);
  if (match === null) return false;
  const [, local = "", , zone = "Z", offsetHours = "0", offsetMinutes = "0"] = match;
  const localMs = Date.parse(`${local}Z`);
  // Date.parse rolls 31 September and 24:00 over into the next day.
  if (Number.isNaN(localMs) || !new Date(localMs).toISOString().startsWith(local)) return false;
  if (Number(offsetHours) > 23 || Number(offsetMinutes) > 59) return false;
  const offsetMs = (Number(offsetHours) * 60 + Number(offsetMinutes)) * 60_000;
  const ms = zone.startsWith("-") ? localMs + offsetMs : localMs - offsetMs;
  return ms >= earliestMs && ms <= latestMs;
}

const earliestMs = Date.parse("0001-01-01T00:00:00Z");
const latestMs = Date.parse("9999-12-31T23:59:59Z");

export const timestampRule = "must be an existing time in the form of RFC 3339, such as 2024-02-29T09:30:00Z";

/**
 * Returns a duration in the form that protobuf-es reads, "5400s"; undefined where the text is no duration. Reads ISO 8601
 * too ("PT1H30M"): weeks, days of 24 hours, hours, minutes, seconds. Years and months have no fixed length.
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

export const durationRule = "must be a duration in seconds or of ISO 8601, such as 90.5s or PT1M30.5S";

const isoDuration =
  /^(-?)P(?=\d|T\d)(?:(\d+)W)?(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:[.,](\d{1,9}))?S)?)?$/;

/** 10,000 years, as google.protobuf.Duration says. */
const longestSeconds = 315_576_000_000;

function isInRange(seconds: number, fraction = "0"): boolean {
  return seconds < longestSeconds || (seconds === longestSeconds && /^0+$/.test(fraction));
}

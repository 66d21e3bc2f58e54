/** What HTTP callers may write for a duration, and what they read: ISO 8601, or the seconds of protobuf. */
export const durationPattern =
  "^(-?P(?=\\w)(\\d+W)?(\\d+D)?(T(?=\\d)(\\d+H)?(\\d+M)?(\\d+([.,]\\d{1,9})?S)?)?|-?\\d+(\\.\\d{1,9})?s)$";

/** The durations that HTTP callers read. */
export const writtenDurationPattern = "^-?PT(?=\\d)(\\d+H)?(\\d+M)?(\\d+(\\.\\d{1,9})?S)?$";

/** The seconds that protobuf writes as ISO 8601: "20.5s" is PT20.5S. */
export function toIsoDuration(seconds: string): string {
  const parts = /^(-?)(\d+)(\.\d+)?s$/.exec(seconds);
  if (parts === null) return seconds;
  const [, sign = "", digits = "0", fraction = ""] = parts;
  const whole = BigInt(digits);
  const [hours, minutes, rest] = [whole / 3600n, (whole / 60n) % 60n, whole % 60n];
  const last = rest === 0n && fraction === "" && whole > 0n ? "" : `${rest}${fraction}S`;
  return `${sign}PT${hours > 0n ? `${hours}H` : ""}${minutes > 0n ? `${minutes}M` : ""}${last}`;
}

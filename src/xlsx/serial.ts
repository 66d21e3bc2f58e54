import type { Shape } from "./number-format.ts";

/**
 * How a workbook counts days (ECMA-376 part 1, 18.17.4.1). `1900` includes 29 February 1900 (serial 60), as Lotus 1-2-3
 * did. `1900-iso` does not; its day 1 is 1899-12-31.
 */
export type DateSystem = "1900" | "1900-iso" | "1904";

const dayMs = 86_400_000;
const lastDay = Date.UTC(9999, 11, 31);
const epochs = { "1900": Date.UTC(1899, 11, 30), "1900-iso": Date.UTC(1899, 11, 30), "1904": Date.UTC(1904, 0, 1) };

/**
 * Formats a serial number as ISO 8601, rounded to the millisecond: `2024-02-21`, `2024-02-21T09:30:00`, `09:30:00`,
 * `PT36H`. A value with a day and a time has both, even if the format of the cell shows only one.
 * @returns undefined when the shape is a number or the calendar has no such day: the value stays a number
 */
export function formatSerial(serial: number, shape: Shape, system: DateSystem): string | undefined {
  if (shape === "number") return undefined;
  if (shape === "duration") return formatDuration(serial);
  const ms = Math.round(serial * dayMs);
  if (ms < 0) return undefined;
  if (ms < dayMs && (shape === "time" || (shape === "dayOrTime" && ms > 0))) return formatTime(ms);
  const day = dayOf(Math.floor(ms / dayMs), system);
  if (day === undefined) return undefined;
  const isDay = ms % dayMs === 0 && (shape === "date" || shape === "dayOrTime");
  return isDay ? day : `${day}T${formatTime(ms % dayMs)}`;
}

function dayOf(days: number, system: DateSystem): string | undefined {
  if (system === "1900" && (days < 1 || days === 60)) return undefined;
  const shift = system === "1900" && days < 60 ? 1 : 0;
  const time = epochs[system] + (days + shift) * dayMs;
  return time > lastDay ? undefined : new Date(time).toISOString().slice(0, 10);
}

function formatTime(ms: number): string {
  const [time = "", fraction = ""] = new Date(ms).toISOString().slice(11, -1).split(".");
  return fraction === "000" ? time : `${time}.${fraction}`;
}

function formatDuration(serial: number): string | undefined {
  const ms = Math.round(Math.abs(serial) * dayMs);
  if (!Number.isSafeInteger(ms)) return undefined;
  const hours = Math.floor(ms / 3_600_000);
  const minutes = Math.floor(ms / 60_000) % 60;
  const seconds = (ms % 60_000) / 1000;
  const parts = [hours > 0 && `${hours}H`, minutes > 0 && `${minutes}M`, seconds > 0 && `${seconds}S`];
  const text = parts.filter((part) => part !== false).join("");
  return `${serial < 0 && ms > 0 ? "-" : ""}PT${text === "" ? "0S" : text}`;
}

const isoDate = /^(-?\d{4,})-(\d\d)-(\d\d)$/;
const isoTime = /^T?(\d\d):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?$/;
const isoDuration =
  /^-?P(?=[\dT])(?:\d+Y)?(?:\d+M)?(?:\d+W)?(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+(?:[.,]\d+)?S)?)?$/;

/**
 * Validates an ISO 8601 date, time, date and time, or duration.
 * @returns the text, without a time of midnight if the cell shows only a date; undefined when the text is invalid or the
 * day does not exist
 */
export function readIsoValue(text: string, shape: Shape): string | undefined {
  if (isoDuration.test(text)) return text;
  const [date = "", time] = text.includes("T") && !text.startsWith("T") ? text.split("T", 2) : [text];
  if (time === undefined && isTime(date)) return date.replace(/^T/, "");
  if (!isDate(date) || (time !== undefined && !isTime(time))) return undefined;
  const isMidnight = time !== undefined && /^00:00(?::00(?:\.0+)?)?$/.test(time);
  return isMidnight && shape === "date" ? date : text;
}

function isDate(text: string): boolean {
  const [, year, month, day] = isoDate.exec(text) ?? [];
  if (year === undefined) return false;
  const date = new Date(0);
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  return date.getUTCMonth() === Number(month) - 1 && date.getUTCDate() === Number(day);
}

function isTime(text: string): boolean {
  const [, hour, minute, second = "0"] = isoTime.exec(text) ?? [];
  return hour !== undefined && Number(hour) < 24 && Number(minute) < 60 && Number(second) < 60;
}

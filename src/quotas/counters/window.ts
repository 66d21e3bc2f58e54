import type { Day, QuotaLimits } from "./engine.ts";

export const hourMs = 3_600_000;
export const dayMs = 86_400_000;

/** Returns the calendar day at an offset in hours from UTC. */
export function dayAt(nowMs: number, timezone: number): Day {
  return Math.floor((nowMs + timezone * hourMs) / dayMs);
}

/** Returns the quota of a day and its date window: the quota's period, or the calendar month of the base quota. */
export function windowAt(day: Day, quotas: readonly QuotaLimits[]) {
  const dated = quotas.find(({ period }) => period !== undefined && period.from <= day && day < period.to);
  if (dated?.period !== undefined) return { limits: dated, window: { from: dated.period.from, to: dated.period.to } };
  return { limits: quotas.find(({ period }) => period === undefined), window: monthOf(day) };
}

function monthOf(day: Day): { from: Day; to: Day } {
  const date = new Date(day * dayMs);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return { from: Date.UTC(year, month) / dayMs, to: Date.UTC(year, month + 1) / dayMs };
}

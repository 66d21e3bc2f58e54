import { type Day, monthOf } from "../../shared/calendar.ts";
import type { QuotaLimits } from "./engine.ts";

/** Returns the quota of a day and its date window: the quota's period, or the calendar month of the base quota. */
export function windowAt(day: Day, quotas: readonly QuotaLimits[]) {
  const dated = quotas.find(({ period }) => period !== undefined && period.from <= day && day < period.to);
  if (dated?.period !== undefined) return { limits: dated, window: { from: dated.period.from, to: dated.period.to } };
  return { limits: quotas.find(({ period }) => period === undefined), window: monthOf(day) };
}

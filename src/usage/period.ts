import type { ReadStatisticsRequest } from "#gen/tollgate/v1/statistics_pb.js";
import { dayAt, parseDay, toIsoDay } from "../shared/calendar.ts";
import { invalid } from "../shared/errors.ts";
import type { Principal } from "../shared/principal.ts";

/** Days YYYY-MM-DD; `to` is excluded. An absent day is the first of the month, or today, in each user's time zone. */
export interface StatisticsPeriod {
  readonly from: string | undefined;
  readonly to: string | undefined;
}

/**
 * Returns the period of a request. It may be empty: `from` may equal `to`.
 * @throws INVALID_REQUEST when `from` is after `to`, defaults included
 */
export function statisticsPeriodOf(
  { from, to }: Pick<ReadStatisticsRequest, "from" | "to">,
  { timezone }: Pick<Principal, "timezone">,
  nowMs: number,
): StatisticsPeriod {
  const period = {
    from: from === undefined ? undefined : parseDay("from", from),
    to: to === undefined ? undefined : parseDay("to", to),
  };
  // Defaults are checked in the caller's time zone.
  const today = toIsoDay(dayAt(nowMs, timezone));
  if (period.from !== undefined && period.from > (period.to ?? today)) {
    if (period.to !== undefined) throw invalid({ field: "to", message: "must not be before from" });
    throw invalid({ field: "from", message: `must not be after to, which is today when absent: ${today}` });
  }
  const month = `${today.slice(0, 7)}-01`;
  if (period.from === undefined && period.to !== undefined && period.to < month) {
    throw invalid({ field: "to", message: `must not be before from, which is ${month} when absent` });
  }
  return period;
}

import type { ReadStatisticsRequest } from "#gen/tollgate/v1/statistics_pb.js";
import { parseDay } from "../shared/calendar.ts";
import { invalid } from "../shared/errors.ts";
import type { Principal } from "../shared/principal.ts";

/** Days YYYY-MM-DD, `to` excluded; an absent one is for each user to say: the present month, the present day. */
export interface StatisticsPeriod {
  readonly from: string | undefined;
  readonly to: string | undefined;
}

/**
 * The period that a request names; an empty one, from equal to to, is a period.
 * @throws INVALID_ARGUMENT where it ends before it begins, also by a default
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
  // What is absent is for each user to say; whether the period can be is decided by the caller's own calendar.
  const today = new Date(nowMs + timezone * 3_600_000).toISOString().slice(0, 10);
  // Days written YYYY-MM-DD sort like their dates.
  if (period.from !== undefined && period.from > (period.to ?? today)) {
    if (period.to !== undefined) throw invalid({ field: "to", message: "must not be before from" });
    throw invalid({ field: "from", message: `must not be after to, which is today where it is absent: ${today}` });
  }
  const month = `${today.slice(0, 7)}-01`;
  if (period.from === undefined && period.to !== undefined && period.to < month) {
    throw invalid({ field: "to", message: `must not be before from, which is ${month} where it is absent` });
  }
  return period;
}

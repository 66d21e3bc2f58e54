import type { ReadStatisticsRequest } from "#gen/tollgate/v1/statistics_pb.js";
import { parseDay } from "../core/days.ts";
import { invalid } from "../core/errors.ts";

/** Days YYYY-MM-DD, `to` excluded; an absent one is for each user to say: the present month, the present day. */
export interface StatisticsPeriod {
  readonly from: string | undefined;
  readonly to: string | undefined;
}

/** The period that a request names. */
export function periodOf({ from, to }: Pick<ReadStatisticsRequest, "from" | "to">): StatisticsPeriod {
  const period = {
    from: from === undefined ? undefined : parseDay("from", from),
    to: to === undefined ? undefined : parseDay("to", to),
  };
  // Days written YYYY-MM-DD sort like their dates.
  if (period.from !== undefined && period.to !== undefined && period.from >= period.to) {
    throw invalid({ field: "to", message: "must be a day after from" });
  }
  return period;
}

import { parseDay } from "../core/days.ts";
import { invalid } from "../core/errors.ts";

/** Days YYYY-MM-DD, `to` excluded; an absent one is for each user to say: the present month, the present day. */
export interface StatisticsPeriod {
  readonly from: string | undefined;
  readonly to: string | undefined;
}

/** The period that a request names. An unset string reads as "". */
export function periodOf({ from, to }: { from: string; to: string }): StatisticsPeriod {
  const period = {
    from: from === "" ? undefined : parseDay("from", from),
    to: to === "" ? undefined : parseDay("to", to),
  };
  // Days written YYYY-MM-DD sort like their dates.
  if (period.from !== undefined && period.to !== undefined && period.from >= period.to) {
    throw invalid({ field: "to", message: "must be a day after from" });
  }
  return period;
}

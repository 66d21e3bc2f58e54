import { parseDay } from "../../shared/days.ts";
import { invalid } from "../../shared/errors.ts";

/** The days from..to, `to` excluded, each YYYY-MM-DD. */
export interface QuotaPeriod {
  readonly from: string;
  readonly to: string;
}

/** The period that a request names; undefined for one that names none and so means the base quota. */
export function quotaPeriodOf(request: {
  from?: string | undefined;
  to?: string | undefined;
}): QuotaPeriod | undefined {
  const { from, to } = request;
  if (from === undefined && to === undefined) return undefined;
  if (from === undefined) throw invalid({ field: "from", message: "is needed with to" });
  if (to === undefined) throw invalid({ field: "to", message: "is needed with from" });
  const period = { from: parseDay("from", from), to: parseDay("to", to) };
  // Days written YYYY-MM-DD sort like their dates.
  if (period.from >= period.to) throw invalid({ field: "to", message: "must be a day after from" });
  return period;
}

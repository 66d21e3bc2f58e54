import { parseDay } from "../../shared/calendar.ts";
import { invalid } from "../../shared/errors.ts";

/** The days from `from` until before `to`, each YYYY-MM-DD. */
export interface QuotaPeriod {
  readonly from: string;
  readonly to: string;
}

/**
 * Returns the period that a request names. Undefined means the base quota.
 * @throws INVALID_ARGUMENT when only one day is set, or `to` is not after `from`
 */
export function quotaPeriodOf(request: {
  from?: string | undefined;
  to?: string | undefined;
}): QuotaPeriod | undefined {
  const { from, to } = request;
  if (from === undefined && to === undefined) return undefined;
  if (from === undefined) throw invalid({ field: "from", message: "must be set when to is set" });
  if (to === undefined) throw invalid({ field: "to", message: "must be set when from is set" });
  const period = { from: parseDay("from", from), to: parseDay("to", to) };
  // Days written YYYY-MM-DD sort like their dates.
  if (period.from >= period.to) throw invalid({ field: "to", message: "must be a day after from" });
  return period;
}

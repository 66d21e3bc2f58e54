import { invalid } from "./errors.ts";

/**
 * A calendar day as it is written, YYYY-MM-DD. Refuses what no calendar has, such as 2026-02-30.
 * @param field the request's field, for the error
 */
export function parseDay(field: string, text: string): string {
  const time = Date.parse(`${text}T00:00:00Z`);
  if (Number.isNaN(time) || text < "0001-01-01" || new Date(time).toISOString().slice(0, 10) !== text) {
    throw invalid({ field, message: `is no day of the calendar in the form YYYY-MM-DD: ${text}` });
  }
  return text;
}

import type { Database } from "../../postgres/database.ts";
import { deleteBefore } from "../../postgres/retention.ts";
import { dayAt, toIsoDay } from "../../shared/calendar.ts";

/** Deletes the charged points and late-lease notes of days before `beforeMs`, milliseconds since the epoch. */
export async function dropChargedDays(database: Database, beforeMs: number): Promise<void> {
  const before = toIsoDay(dayAt(beforeMs, 0));
  for (const table of ["charged_day", "late_day"]) await deleteBefore(database, table, "day", before);
}

import type { Database } from "../../postgres/database.ts";
import { deleteBefore } from "../../postgres/retention.ts";

/** Removes the sums of days before this time, milliseconds since the epoch, and the notes about their late leases. */
export async function dropChargedDays(database: Database, beforeMs: number): Promise<void> {
  const before = new Date(beforeMs).toISOString().slice(0, 10);
  for (const table of ["charged_day", "late_day"]) await deleteBefore(database, table, "day", before);
}

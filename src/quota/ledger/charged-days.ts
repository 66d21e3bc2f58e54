import type { Database } from "../../storage/database.ts";
import { deleteBefore } from "../../storage/retention.ts";

/** Removes the sums of days before this time, milliseconds since the epoch. */
export async function dropChargedDays(database: Database, beforeMs: number): Promise<void> {
  await deleteBefore(database, "charged_day", "day", new Date(beforeMs).toISOString().slice(0, 10));
}

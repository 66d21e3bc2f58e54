import type { Database } from "../../storage/database.ts";

/** Removes the sums of days before this time, milliseconds since the epoch. */
export async function dropChargedDays(database: Database, beforeMs: number): Promise<void> {
  await database("charged_day").where("day", "<", new Date(beforeMs).toISOString().slice(0, 10)).delete();
}

import type { Database } from "../../postgres/database.ts";
import { deleteInBatches, deleteOldRows } from "../../postgres/retention.ts";
import { defineStatements } from "../../postgres/statements.ts";
import { dayAt, toIsoDay } from "../../shared/calendar.ts";

/** Deletes the charged points and late-lease notes of days before `beforeMs`, milliseconds since the epoch. */
export async function dropChargedDays(database: Database, beforeMs: number): Promise<void> {
  const before = toIsoDay(dayAt(beforeMs, 0));
  await deleteInBatches(database, sql.deleteChargedDays, before);
  await deleteInBatches(database, sql.deleteLateDays, before);
}

const sql = defineStatements("charged-days", {
  deleteChargedDays: deleteOldRows("charged_day", "day"),
  deleteLateDays: deleteOldRows("late_day", "day"),
});

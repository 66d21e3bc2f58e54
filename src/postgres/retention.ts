import type { Logger } from "pino";
import { dayAt, dayMs, hourMs } from "../shared/calendar.ts";
import type { Database } from "./database.ts";
import { dropPartitions, ensurePartitions, type Partitioned } from "./partitions.ts";
import { executeStatement, type Statement } from "./statements.ts";

export interface RetainedTable {
  readonly table: Partitioned;
  /** How many days are kept. */
  readonly days: number;
  /** Deletes rows of other tables that refer to earlier days. `beforeMs` is in milliseconds since the epoch. */
  readonly deleteDependents?: (beforeMs: number) => Promise<void>;
}

export interface RetentionOptions {
  readonly database: Database;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

const aheadDays = 3;

/**
 * Creates the partitions of the coming days and drops those that are past their retention, now and every hour.
 * @returns a function that stops it
 */
export function startRetention(
  { database, logger, now }: RetentionOptions,
  tables: readonly RetainedTable[],
): () => void {
  const retain = async ({ table, days: retentionDays, deleteDependents }: RetainedTable): Promise<void> => {
    const today = dayAt(now(), 0);
    const days = new Set(Array.from({ length: aheadDays + 2 }, (_none, index) => today - 1 + index));
    await ensurePartitions(database, table, days);
    // Rows that refer to a partition are deleted before it is dropped.
    await deleteDependents?.((today - retentionDays) * dayMs);
    await dropPartitions(database, table, today - retentionDays);
  };
  let isStopped = false;
  const retainAll = async (): Promise<void> => {
    for (const retained of tables) {
      if (isStopped) return;
      const { table } = retained;
      // A failure of one table does not stop the others.
      await retain(retained).catch((error: unknown) => {
        // The closing pool cancels running statements, which is not a failure.
        if (!isStopped) logger.warn({ err: error, table }, "retention failed");
      });
    }
  };
  const run = () => void retainAll();
  run();
  const timer = setInterval(run, hourMs);
  timer.unref();
  return () => {
    isStopped = true;
    clearInterval(timer);
  };
}

/** Rows that one statement deletes. It takes tens of milliseconds, far below statement_timeout. */
const batchRows = 5000;

/**
 * Returns the text of a statement that deletes rows of a table whose column is below `$1`, at most `$2` rows.
 * An array, not a join: PostgreSQL then fetches the rows by ctid instead of scanning the table.
 */
export function deleteOldRows(table: string, column: string): string {
  return `delete from ${table} where ctid = any (array(select ctid from ${table} where ${column} < $1 limit $2))`;
}

/**
 * Deletes old rows in batches: one statement for a backlog of a year would exceed statement_timeout at every attempt.
 * @param statement a statement of `deleteOldRows`
 */
export async function deleteInBatches(database: Database, statement: Statement, before: string): Promise<void> {
  for (;;) {
    const deleted = await executeStatement(database, statement, [before, batchRows]);
    if (deleted < batchRows) return;
  }
}

import type { Logger } from "pino";
import { dayAt, dayMs, hourMs } from "../shared/calendar.ts";
import type { Database } from "./database.ts";
import { dropPartitions, ensurePartitions, type Partitioned } from "./partitions.ts";

export interface RetainedTable {
  readonly table: Partitioned;
  /** How long a day is kept. */
  readonly days: number;
  /** Removes what else is kept for as long: of the time before it, milliseconds since the epoch. */
  readonly tidy?: (beforeMs: number) => Promise<void>;
}

export interface RetentionOptions {
  readonly database: Database;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

const aheadDays = 3;

/**
 * Makes the tables' partitions of the coming days, and drops those that are older than they are kept: now and every
 * hour.
 * @returns what stops it
 */
export function startRetention(
  { database, logger, now }: RetentionOptions,
  tables: readonly RetainedTable[],
): () => void {
  const keep = async ({ table, days: kept, tidy }: RetainedTable): Promise<void> => {
    const today = dayAt(now(), 0);
    const days = new Set(Array.from({ length: aheadDays + 2 }, (_none, index) => today - 1 + index));
    await ensurePartitions(database, table, days);
    // What leads to a row goes before the row.
    await tidy?.((today - kept) * dayMs);
    await dropPartitions(database, table, today - kept);
  };
  let isStopped = false;
  const keepAll = async (): Promise<void> => {
    for (const kept of tables) {
      if (isStopped) return;
      const { table } = kept;
      // The other tables do not wait for what is wrong with one.
      await keep(kept).catch((error: unknown) => {
        // The pool that closes ends statements under way.
        if (!isStopped) logger.warn({ err: error, table }, "old days were not tidied");
      });
    }
  };
  const attempt = () => void keepAll();
  attempt();
  const timer = setInterval(attempt, hourMs);
  timer.unref();
  return () => {
    isStopped = true;
    clearInterval(timer);
  };
}

/** Rows that one statement deletes: some tens of milliseconds, far below the longest that a statement may run. */
const batchRows = 5000;

/**
 * Deletes the rows of a table whose column is before a value, in statements of bounded size: a year's backlog must not
 * run into the time limit of one statement again and again.
 */
export async function deleteBefore(database: Database, table: string, column: string, before: string): Promise<void> {
  for (;;) {
    const { rowCount } = await database.raw<{ rowCount: number }>(
      // An array, not a join: the rows are then found by their place, without reading the table.
      "delete from ?? where ctid = any (array(select ctid from ?? where ?? < ? limit ?))",
      [table, table, column, before, batchRows],
    );
    if (rowCount < batchRows) return;
  }
}

import { type Database, inTransaction } from "./database.ts";

/** Tables of which each partition holds a day: of a date, or of a time in UTC. */
export type Partitioned = "lease" | "usage_point" | "audit_action" | "data_chunk";

/** Days since 1970-01-01. */
type Day = number;

/** Any number that no other advisory lock of the service has. */
const lockKey = 7_043_005;
const known = new WeakMap<Database, Set<string>>();

/**
 * Makes the partitions of these days where they are missing. Attached, not created in place: writers of other days go
 * on meanwhile.
 */
export async function ensurePartitions(database: Database, table: Partitioned, days: ReadonlySet<Day>): Promise<void> {
  const there = known.get(database) ?? new Set();
  known.set(database, there);
  for (const day of days) {
    const name = `${table}_${toDate(day).replaceAll("-", "")}`;
    if (there.has(name)) continue;
    await inTransaction(database, async (transaction) => {
      await transaction.raw("select pg_advisory_xact_lock(?)", [lockKey]);
      const { rows } = await transaction.raw<{ rows: { found: string | null }[] }>("select to_regclass(?) as found", [
        name,
      ]);
      if (rows[0]?.found !== null) return;
      await transaction.raw("create table ?? (like ?? including all)", [name, table]);
      // Bounds take no parameters; these are digits and signs. Of a table by date the time is passed over.
      const bounds = `from ('${toDate(day)} 00:00+00') to ('${toDate(day + 1)} 00:00+00')`;
      await transaction.raw(`alter table ?? attach partition ?? for values ${bounds}`, [table, name]);
    });
    there.add(name);
  }
}

/** Drops the partitions of days before this one; writers of other days go on meanwhile. */
export async function dropPartitions(database: Database, table: Partitioned, before: Day): Promise<void> {
  const { rows } = await database.raw<{ rows: { name: string }[] }>(
    `select relname as name from pg_inherits join pg_class on pg_class.oid = inhrelid
     where inhparent = ?::regclass and relname < ? order by relname`,
    [table, `${table}_${toDate(before).replaceAll("-", "")}`],
  );
  for (const { name } of rows) {
    await database.raw("alter table ?? detach partition ?? concurrently", [table, name]);
    await database.raw("drop table ??", [name]);
    known.get(database)?.delete(name);
  }
}

/** YYYY-MM-DD. */
function toDate(day: Day): string {
  return new Date(day * 86_400_000).toISOString().slice(0, 10);
}

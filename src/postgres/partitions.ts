import { type Day, toIsoDay } from "../shared/calendar.ts";
import { advisoryLocks } from "./advisory-locks.ts";
import { type Database, inTransaction, type Transaction } from "./database.ts";
import { isMissingPartition } from "./errors.ts";

/** Tables of which each partition holds a day: of a date, or of a time in UTC. */
export type Partitioned = "lease" | "usage_point" | "audit_action" | "data_chunk";

const known = new WeakMap<Database, Set<string>>();

/**
 * Makes the partitions of these days where they are missing. Attached, not created in place: writers of other days go
 * on meanwhile.
 */
export async function ensurePartitions(database: Database, table: Partitioned, days: ReadonlySet<Day>): Promise<void> {
  const there = known.get(database) ?? new Set();
  known.set(database, there);
  for (const day of days) {
    const name = nameOf(table, day);
    if (there.has(name)) continue;
    await inTransaction(database, async (transaction) => {
      await transaction.raw("select pg_advisory_xact_lock(?)", [advisoryLocks.partitions]);
      const state = (await readTables(transaction, table)).find((one) => one.name === name)?.state;
      if (state === "attached") return;
      // What dropPartitions was interrupted at comes back with what is in it.
      if (state === "detaching") await transaction.raw("alter table ?? detach partition ?? finalize", [table, name]);
      if (state === undefined) await transaction.raw("create table ?? (like ?? including all)", [name, table]);
      // Bounds take no parameters; these are digits and signs. Of a table by date the time is passed over.
      const bounds = `from ('${toIsoDay(day)} 00:00+00') to ('${toIsoDay(day + 1)} 00:00+00')`;
      await transaction.raw(`alter table ?? attach partition ?? for values ${bounds}`, [table, name]);
    });
    there.add(name);
  }
}

/**
 * Runs work that makes sure of partitions and then writes into them. When another server has dropped one that this one
 * believed to be there, the work runs once more from its beginning.
 */
export async function withPartitions<Result>(database: Database, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!isMissingPartition(error)) throw error;
    known.delete(database);
    return work();
  }
}

/**
 * Drops the partitions of days before this one, and what an interrupted run has left of them; writers of other days go
 * on meanwhile. Does nothing while another server is at it.
 */
export async function dropPartitions(database: Database, table: Partitioned, before: Day): Promise<void> {
  // This transaction has the lock and nothing else: who detaches concurrently must not be in one.
  await database.transaction(async (turn) => {
    // It waits while the partitions of a year are dropped, and holds nothing but its lock.
    await turn.raw("set local idle_in_transaction_session_timeout = 0");
    // No parameters: with them the statement's snapshot would stay open, and to finalize is to wait for its end.
    const { rows } = await turn.raw<{ rows: { free: boolean }[] }>(
      `select pg_try_advisory_xact_lock(${advisoryLocks.partitions}, '${table}'::regclass::oid::integer) as free`,
    );
    if (rows[0]?.free !== true) return;
    for (const { name, state } of await readTables(database, table)) {
      const isOld = name < nameOf(table, before);
      if (state === "detaching") await database.raw("alter table ?? detach partition ?? finalize", [table, name]);
      if (state === "attached" && isOld) {
        known.get(database)?.delete(name);
        await database.raw("alter table ?? detach partition ?? concurrently", [table, name]);
      }
      if (isOld) await dropDetached(database, table, name);
    }
  });
}

async function dropDetached(database: Database, table: Partitioned, name: string): Promise<void> {
  await inTransaction(database, async (transaction) => {
    await transaction.raw("select pg_advisory_xact_lock(?)", [advisoryLocks.partitions]);
    // A writer of that day may have attached it again.
    const isDetached = (await readTables(transaction, table)).some(
      (one) => one.name === name && one.state === "detached",
    );
    if (isDetached) await transaction.raw("drop table ??", [name]);
  });
}

interface DayTable {
  readonly name: string;
  /** Detaching is also what was interrupted at it. */
  readonly state: "attached" | "detaching" | "detached";
}

/**
 * The tables of days. First those that are detached, then the one that is detaching: until that has ended, none of the
 * others can be detached.
 */
async function readTables(database: Database | Transaction, table: Partitioned): Promise<DayTable[]> {
  const { rows } = await database.raw<{ rows: DayTable[] }>(
    `select relname as name,
       case when inhrelid is null then 'detached' when inhdetachpending then 'detaching' else 'attached' end as state
     from pg_class left join pg_inherits on inhrelid = pg_class.oid
     where relnamespace = (select relnamespace from pg_class where oid = ?::regclass) and relname ~ ?
     order by inhrelid is not null, not inhdetachpending, relname`,
    [table, `^${table}_[0-9]{8}$`],
  );
  return rows;
}

function nameOf(table: Partitioned, day: Day): string {
  return `${table}_${toIsoDay(day).replaceAll("-", "")}`;
}

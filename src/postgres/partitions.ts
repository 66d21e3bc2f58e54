import { type Day, toIsoDay } from "../shared/calendar.ts";
import { lockInTransaction, tryLockTable } from "./advisory-locks.ts";
import { type Database, inTransaction, type Transaction } from "./database.ts";
import { isMissingPartition } from "./errors.ts";
import { defineStatements, queryRows, queryText } from "./statements.ts";

/** Tables with a partition for each day, by a column of type date or timestamptz (days in UTC). */
export type Partitioned = "lease" | "usage_point" | "audit_action" | "data_chunk";

/** Names of partitions that this process has seen attached. */
const knownPartitions = new WeakMap<Database, Set<string>>();

/**
 * Creates the missing partitions of these days. A partition is created as a table and then attached: that does not block
 * writers of other days.
 */
export async function ensurePartitions(database: Database, table: Partitioned, days: ReadonlySet<Day>): Promise<void> {
  const known = knownPartitions.get(database) ?? new Set();
  knownPartitions.set(database, known);
  for (const day of days) {
    const name = nameOf(table, day);
    if (known.has(name)) continue;
    await inTransaction(database, async (transaction) => {
      await lockInTransaction(transaction, "partitions");
      const state = (await readTables(transaction, table)).find((partition) => partition.name === name)?.state;
      if (state === "attached") return;
      // An interrupted dropPartitions left this partition. Finish the detach and attach it again with its rows.
      if (state === "detaching") await queryText(transaction, ddl.finishDetach(table, name));
      if (state === undefined) await queryText(transaction, ddl.create(table, name));
      await queryText(transaction, ddl.attach(table, name, day));
    });
    known.add(name);
  }
}

/**
 * Runs work that ensures partitions and then writes into them. If another server has dropped a partition meanwhile, runs
 * the work once more from the start.
 */
export async function withPartitions<Result>(database: Database, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!isMissingPartition(error)) throw error;
    knownPartitions.delete(database);
    return work();
  }
}

/**
 * Drops the partitions of earlier days, and the remains of an interrupted run. Does not block writers of other days. Does
 * nothing while another server drops partitions.
 */
export async function dropPartitions(database: Database, table: Partitioned, before: Day): Promise<void> {
  // This transaction only holds the lock: DETACH CONCURRENTLY must run outside a transaction.
  await database.transaction(async (lock) => {
    // It is idle while up to a year of partitions is dropped.
    await queryText(lock, "set local idle_in_transaction_session_timeout = 0");
    // FINALIZE waits for open snapshots. This lock leaves none open.
    if (!(await tryLockTable(lock, "partitions", table))) return;
    for (const { name, state } of await readTables(database, table)) {
      const isOld = name < nameOf(table, before);
      if (state === "detaching") await queryText(database, ddl.finishDetach(table, name));
      if (state === "attached" && isOld) {
        knownPartitions.get(database)?.delete(name);
        await queryText(database, ddl.detach(table, name));
      }
      if (isOld) await dropDetached(database, table, name);
    }
  });
}

async function dropDetached(database: Database, table: Partitioned, name: string): Promise<void> {
  await inTransaction(database, async (transaction) => {
    await lockInTransaction(transaction, "partitions");
    // A writer of that day may have attached it again.
    const isDetached = (await readTables(transaction, table)).some(
      (partition) => partition.name === name && partition.state === "detached",
    );
    if (isDetached) await queryText(transaction, ddl.drop(name));
  });
}

interface DayTable {
  readonly name: string;
  /** A partition stays "detaching" when its detach was interrupted. */
  readonly state: "attached" | "detaching" | "detached";
}

/**
 * Lists the tables of days, ordered by state: detached, detaching, attached. PostgreSQL detaches no other partition until
 * a pending detach is finished.
 */
async function readTables(database: Database | Transaction, table: Partitioned): Promise<DayTable[]> {
  return queryRows(database, sql.list, [table, `^${table}_[0-9]{8}$`]);
}

const sql = defineStatements("partitions", {
  list: `
    select relname as name,
      case when inhrelid is null then 'detached' when inhdetachpending then 'detaching' else 'attached' end as state
    from pg_class left join pg_inherits on inhrelid = pg_class.oid
    where relnamespace = (select relnamespace from pg_class where oid = $1::regclass) and relname ~ $2
    order by inhrelid is not null, not inhdetachpending, relname`,
});

/** DDL takes no parameters. Names and bounds hold letters, digits and signs only. */
const ddl = {
  create: (table: Partitioned, name: string) => `create table ${name} (like ${table} including all)`,
  /** A date column ignores the time of a bound. */
  attach: (table: Partitioned, name: string, day: Day) =>
    `alter table ${table} attach partition ${name}
     for values from ('${toIsoDay(day)} 00:00+00') to ('${toIsoDay(day + 1)} 00:00+00')`,
  detach: (table: Partitioned, name: string) => `alter table ${table} detach partition ${name} concurrently`,
  finishDetach: (table: Partitioned, name: string) => `alter table ${table} detach partition ${name} finalize`,
  drop: (name: string) => `drop table ${name}`,
};

function nameOf(table: Partitioned, day: Day): string {
  return `${table}_${toIsoDay(day).replaceAll("-", "")}`;
}

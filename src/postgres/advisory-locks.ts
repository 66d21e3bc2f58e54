import type pg from "pg";
import type { Transaction } from "./database.ts";
import { defineStatements, queryRows, queryText } from "./statements.ts";

/** Keys of the service's PostgreSQL advisory locks, which share one key space in a database. Each key is used once. */
const keys = {
  /** Migrations run on one server at a time. */
  migrations: 7_043_001,
  firstAdministrator: 7_043_002,
  /** One process uses an embedded database. */
  embedded: 7_043_003,
  /** Changes of administrators run one after the other. */
  administrators: 7_043_004,
  partitions: 7_043_005,
  /** Servers of release 1.0 roll up audit totals under this key. They do not know which companies see an action. */
  auditRollUpOfLastRelease: 7_043_006,
  auditRollUp: 7_043_007,
  /** With the number of a meter: settlements whose points add up to one date window run one after the other. */
  dateWindow: 7_043_008,
  /** Held by every server: exclusive with counters in memory, shared with counters in Redis. */
  server: 7_043_030,
} as const;

type LockName = keyof typeof keys;

/** Waits for a lock, and holds it until the transaction ends. */
export async function lockInTransaction(transaction: Transaction, lock: LockName): Promise<void> {
  await queryRows(transaction, sql.lock, [keys[lock]]);
}

/**
 * Waits for the locks of the date windows of meters, and holds them until the transaction ends.
 * @param meters numbers of 32 bits, ascending, each once. Two meters of one number share a lock.
 */
export async function lockDateWindows(transaction: Transaction, meters: readonly number[]): Promise<void> {
  await queryRows(transaction, sql.lockEach, [keys.dateWindow, meters]);
}

/** Takes a lock until the transaction ends. Returns false when another session holds it. */
export async function tryLockInTransaction(transaction: Transaction, lock: LockName): Promise<boolean> {
  const [row] = await queryRows<{ free: boolean }>(transaction, sql.tryLock, [keys[lock]]);
  return row?.free === true;
}

/**
 * Takes the lock of one table until the transaction ends. Returns false when another session holds it. Sends no parameters:
 * with them, the snapshot of the statement would stay open until the transaction ends.
 */
export async function tryLockTable(transaction: Transaction, lock: LockName, table: string): Promise<boolean> {
  const text = `select pg_try_advisory_xact_lock(${keys[lock]}, '${table}'::regclass::oid::integer) as free`;
  const [row] = await queryText<{ free: boolean }>(transaction, text);
  return row?.free === true;
}

/**
 * Takes a lock until the connection ends. Returns false when another session holds it.
 * @param mode `shared`: several sessions may hold the lock together
 */
export async function tryLockSession(
  client: pg.ClientBase,
  lock: LockName,
  mode: "exclusive" | "shared" = "exclusive",
): Promise<boolean> {
  const take = mode === "shared" ? "pg_try_advisory_lock_shared" : "pg_try_advisory_lock";
  const { rows } = await client.query<{ free: boolean }>(`select ${take}($1) as free`, [keys[lock]]);
  return rows[0]?.free === true;
}

/** Lists the application names of other sessions of this database that hold a lock, each once, sorted. */
export async function listLockHolders(client: pg.ClientBase, lock: LockName): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `select distinct application_name as name from pg_locks join pg_stat_activity using (pid)
     where locktype = 'advisory' and granted and objid = $1 and pid <> pg_backend_pid()
       and pg_locks.database = (select oid from pg_database where datname = current_database())
     order by name`,
    [keys[lock]],
  );
  return rows.map(({ name }) => name);
}

const sql = defineStatements("advisory-locks", {
  lock: "select pg_advisory_xact_lock($1)",
  // In the order of the array: two sessions must not deadlock.
  lockEach: "select pg_advisory_xact_lock($1, number) from unnest($2::integer[]) as number",
  tryLock: "select pg_try_advisory_xact_lock($1) as free",
});

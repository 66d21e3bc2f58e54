import type { Transaction } from "./database.ts";
import { defineStatements, queryRows } from "./statements.ts";

/** Keys of the service's PostgreSQL advisory locks, which share one key space in a database. Each key is used once. */
export const advisoryLocks = {
  /** Migrations run on one server at a time. */
  migrations: 7_043_001,
  firstAdministrator: 7_043_002,
  /** One process uses an embedded database. */
  embedded: 7_043_003,
  /** Changes of administrators run one after the other. */
  administrators: 7_043_004,
  partitions: 7_043_005,
  /** Servers of release 1.0 roll up audit totals under this key. They know nothing of the companies that see an action. */
  auditRollUpOfLastRelease: 7_043_006,
  auditRollUp: 7_043_007,
  /** Held by every server: exclusive with counters in memory, shared with counters in Redis. */
  server: 7_043_030,
} as const;

type LockName = keyof typeof advisoryLocks;

/** Waits for a lock, and holds it until the transaction ends. */
export async function lockInTransaction(transaction: Transaction, lock: LockName): Promise<void> {
  await queryRows(transaction, sql.lock, [advisoryLocks[lock]]);
}

/** Takes a lock until the transaction ends. Returns false when another session holds it. */
export async function tryLockInTransaction(transaction: Transaction, lock: LockName): Promise<boolean> {
  const [row] = await queryRows<{ free: boolean }>(transaction, sql.tryLock, [advisoryLocks[lock]]);
  return row?.free === true;
}

const sql = defineStatements("advisory-locks", {
  lock: "select pg_advisory_xact_lock($1)",
  tryLock: "select pg_try_advisory_xact_lock($1) as free",
});

import type { Database, Transaction } from "../postgres/database.ts";
import { deleteInBatches, deleteOldRows } from "../postgres/retention.ts";
import { defineStatements, executeStatement, queryRows } from "../postgres/statements.ts";

/** An alert to insert. Days are YYYY-MM-DD. */
export interface NewAlert {
  /** UUID. */
  readonly id: string;
  readonly user_id: number;
  readonly service: number;
  readonly method_group: number;
  readonly limit_name: "POINTS_PER_DAY" | "POINTS_PER_DATE_WINDOW";
  readonly window_from: string;
  readonly window_to: string;
  readonly threshold: string;
  readonly body: string;
}

/** An alert that this server sends now. */
export interface ClaimedAlert {
  readonly id: string;
  readonly body: string;
  /** How often it was tried, with this time. */
  readonly attempts: number;
}

/** An alert that was not sent. */
export interface UnsentAlert {
  readonly id: string;
  readonly state: "waiting" | "abandoned";
  readonly attempts: number;
  readonly created: string;
  readonly error: string | null;
  readonly body: string;
}

/** Inserts the alerts that their windows do not have yet, and returns the ids of those. */
export async function insertAlerts(
  transaction: Transaction,
  alerts: readonly NewAlert[],
): Promise<ReadonlySet<string>> {
  const rows = await queryRows<{ id: string }>(transaction, sql.insertAlerts, [JSON.stringify(alerts)]);
  return new Set(rows.map(({ id }) => id));
}

/** Claims due alerts: no other server tries them within `claimMs`. */
export async function claimAlerts(database: Database, count: number, claimMs: number): Promise<ClaimedAlert[]> {
  return queryRows(database, sql.claimAlerts, [count, claimMs]);
}

/** Notes that the receiver has accepted an alert. */
export async function markSent(database: Database, id: string): Promise<void> {
  await executeStatement(database, sql.markSent, [id]);
}

/** Stores why an attempt failed. `delayMs` is undefined after the last attempt. */
export async function markFailed(database: Database, id: string, error: string, delayMs?: number): Promise<void> {
  await executeStatement(database, sql.markFailed, [id, error, delayMs ?? null]);
}

/** The alerts of all servers that were not sent. */
export interface OutboxTotals {
  readonly waiting: number;
  readonly abandoned: number;
  /** The age of the oldest alert that waits, in seconds. 0 when none waits. */
  readonly oldestSeconds: number;
}

/** Counts the alerts that were not sent. */
export async function countUnsentAlerts(database: Database): Promise<OutboxTotals> {
  const [totals] = await queryRows<OutboxTotals>(database, sql.countUnsent);
  return totals ?? { waiting: 0, abandoned: 0, oldestSeconds: 0 };
}

/** Lists the alerts that were not sent, oldest first, at most 1000. */
export async function listUnsentAlerts(database: Database): Promise<UnsentAlert[]> {
  return queryRows(database, sql.listUnsent);
}

/** Lets abandoned alerts be tried again: one, or all without an id. Returns their number. */
export async function retryAlerts(database: Database, id?: string): Promise<number> {
  return executeStatement(database, sql.retryAlerts, [id ?? null]);
}

/** Deletes alerts that were made before `beforeMs`, milliseconds since the epoch. */
export async function dropAlerts(database: Database, beforeMs: number): Promise<void> {
  await deleteInBatches(database, sql.deleteOld, new Date(beforeMs).toISOString());
}

const sql = defineStatements("outbox", {
  insertAlerts: `
    insert into outbox (
      id, user_id, service, method_group, limit_name, window_from, window_to, threshold, body
    )
    select id, user_id, service, method_group, limit_name, window_from, window_to, threshold, body
    from json_to_recordset($1::json) as alert (
      id uuid, user_id bigint, service smallint, method_group smallint, limit_name text, window_from date,
      window_to date, threshold text, body text
    )
    -- In key order: two writers must not deadlock.
    order by user_id, service, method_group, limit_name, window_from, window_to, threshold
    on conflict do nothing returning id`,
  claimAlerts: `
    update outbox set attempts = attempts + 1, next_at = now() + $2 * interval '1 millisecond'
    where id = any (array(
      select id from outbox where state = 0 and next_at <= now() order by next_at limit $1 for update skip locked
    ))
    returning id, body, attempts`,
  markSent: "update outbox set state = 1, error = null where id = $1",
  markFailed: `
    update outbox set error = $2, state = case when $3::float8 is null then 2 else 0 end,
      next_at = now() + coalesce($3::float8, 0) * interval '1 millisecond'
    where id = $1 and state = 0`,
  listUnsent: `
    select id, case state when 0 then 'waiting' else 'abandoned' end as state, attempts, created_at::text as created, error,
      body
    from outbox where state <> 1 order by created_at, id limit 1000`,
  // In parts: each is read from its own index.
  countUnsent: `
    select waiting::float8, "oldestSeconds", (select count(*) from outbox where state = 2)::float8 as abandoned
    from (
      select count(*) as waiting,
        coalesce(extract(epoch from greatest(now() - min(created_at), interval '0')), 0)::float8 as "oldestSeconds"
      from outbox where state = 0
    ) as waiting_alerts`,
  retryAlerts: `
    update outbox set state = 0, attempts = 0, next_at = now() where state = 2 and ($1::uuid is null or id = $1::uuid)`,
  deleteOld: deleteOldRows("outbox", "created_at"),
});

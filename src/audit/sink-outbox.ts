import type { Database, Transaction } from "../postgres/database.ts";
import { defineStatements, executeStatement, keepPlan, queryRows } from "../postgres/statements.ts";
import { type Micros, toIsoTime } from "../shared/calendar.ts";
import type { ActionRow } from "./store.ts";

/** The right to send the next batch. */
export interface SinkClaim {
  readonly claim: number;
  /** Failed attempts since the last accepted batch. */
  readonly failures: number;
  /** When the first of them was; null without one. */
  readonly failing_since: Date | null;
  /** The number of the next batch. The first is 1. */
  readonly sequence: number;
  /** Actions that were dropped and that no batch has reported yet. */
  readonly dropped: number;
}

/** The keys that one transaction has added: up to 100. */
export interface OutboxEntry {
  readonly id: number;
  /** When the actions were recorded, ISO 8601. */
  readonly recorded: string;
  readonly first: Micros;
  readonly last: Micros;
}

/** An action of an entry. All columns of an action are null when retention has dropped it. */
export type UnsentAction = { readonly entry: number } & (
  | (ActionRow & { readonly part: string })
  | { readonly micros: null }
);

/** The longest entry. A batch consists of whole entries. */
const maxEntryActions = 100;

/**
 * Adds the keys of actions in the transaction that records them.
 * @param keys array literals of times, tracecodes, operations and parts, in order of time
 */
export async function insertUnsentActions(transaction: Transaction, keys: readonly string[]): Promise<void> {
  await executeStatement(transaction, sql.insert, [...keys, maxEntryActions]);
}

/** Returns the part of a statement that adds the keys of the actions in `logged`, if the condition is true. */
export function insertUnsentPart(condition: string): string {
  return `
    unsent as (
      insert into audit_outbox (actions, times, tracecodes, operations, parts)
      select count(*), array_agg(micros order by place), array_agg(tracecode order by place),
        array_agg(operation order by place), array_agg(part order by place)
      from (
        select (extract(epoch from time) * 1000000)::bigint as micros, tracecode, operation, part,
          row_number() over (order by time) as place
        from logged where ${condition}
      ) as key
      group by (place - 1) / ${maxEntryActions} order by min(place)
    )`;
}

/** Prepares the row that claims update. */
export async function prepareSink(database: Database): Promise<void> {
  await executeStatement(database, sql.prepare);
}

/**
 * Claims the sending: no other server sends within `claimMs`. Returns undefined when there is nothing to send, another
 * server sends, or the delay after a failure is not over.
 */
export async function claimSink(database: Database, claimMs: number): Promise<SinkClaim | undefined> {
  const [claim] = await queryRows<SinkClaim>(database, sql.claim, [claimMs]);
  return claim;
}

/**
 * Returns the oldest entries with at most `limit` actions together. Entries are ordered by id. If a transaction began
 * after another one was committed, its entries come later.
 */
export async function listUnsent(database: Database, limit: number): Promise<OutboxEntry[]> {
  return queryRows(database, sql.list, [limit]);
}

/** Reads the actions of entries, in order. */
export async function readUnsentActions(
  database: Database,
  entries: readonly OutboxEntry[],
): Promise<readonly UnsentAction[]> {
  return queryRows(database, sql.read, [
    entries.map(({ id }) => id),
    toIsoTime(Math.min(...entries.map(({ first }) => first))),
    toIsoTime(Math.max(...entries.map(({ last }) => last))),
  ]);
}

/**
 * Deletes the entries of a batch that the sink has accepted, and lets the next attempt begin at once.
 * @returns false when another server has taken over: it sends the entries again
 */
export async function confirmBatch(
  database: Database,
  { claim, dropped }: SinkClaim,
  entries: readonly number[],
): Promise<boolean> {
  return (await executeStatement(database, sql.confirm, [claim, dropped, entries])) > 0;
}

/** Stores why an attempt failed. The next one begins in `delayMs`. */
export async function failBatch(database: Database, claim: SinkClaim, error: string, delayMs: number): Promise<void> {
  await executeStatement(database, sql.fail, [claim.claim, error, delayMs]);
}

/** Returns how long the oldest entry has waited, in seconds. 0 when all actions are sent. */
export async function readUnsentAge(database: Database): Promise<number> {
  const [oldest] = await queryRows<{ seconds: number }>(database, sql.readAge);
  return oldest?.seconds ?? 0;
}

/**
 * Drops the entries of actions that were recorded before `beforeMs`, milliseconds since the epoch. The next batch reports
 * their number.
 * @returns the number of dropped actions
 */
export async function dropUnsentActions(database: Database, beforeMs: number): Promise<number> {
  let total = 0;
  for (;;) {
    const [dropped] = await queryRows<{ actions: number }>(database, sql.drop, [new Date(beforeMs).toISOString()]);
    if (dropped === undefined) return total;
    total += dropped.actions;
  }
}

const sql = defineStatements("sink-outbox", {
  insert: keepPlan(`
    insert into audit_outbox (actions, times, tracecodes, operations, parts)
    select count(*), array_agg(micros order by place), array_agg(tracecode order by place),
      array_agg(operation order by place), array_agg(part order by place)
    from unnest($1::bigint[], $2::uuid[], $3::text[], $4::uuid[]) with ordinality
      as action (micros, tracecode, operation, part, place)
    group by (place - 1) / $5::bigint order by min(place)`),
  prepare: "insert into audit_sink default values on conflict do nothing",
  claim: `
    update audit_sink set claim = claim + 1, next_at = now() + $1 * interval '1 millisecond'
    where next_at <= now() and exists (select from audit_outbox)
    returning claim, failures, failing_since, sequence + 1 as sequence, dropped`,
  list: `
    select id, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as recorded, times[1] as first,
      times[actions] as last
    from (select *, sum(actions) over (order by id) as total from audit_outbox order by id limit $1) as oldest
    where total <= $1 order by id`,
  read: `
    select outbox.id as entry, action.*
    from audit_outbox as outbox
    cross join unnest(times, tracecodes, operations, parts) with ordinality
      as key (micros, tracecode, operation, part, place)
    left join lateral (
      select (extract(epoch from time) * 1000000)::bigint as micros, tracecode, operation, part, user_id, username,
        company_key, server, service, method_group, points, duration_ms, outcome, resource, address, times
      from audit_action
      where time = timestamptz 'epoch' + key.micros * interval '1 microsecond' and tracecode = key.tracecode
        and operation = key.operation and part = key.part
        -- Text parameters let the planner exclude partitions, which are then neither read nor locked.
        and time >= $2 and time <= $3
      -- One look-up for each key: the planner cannot choose to read all partitions.
      limit 1
    ) as action on true
    where outbox.id = any ($1::bigint[]) order by outbox.id, place`,
  confirm: `
    with confirmed as (
      update audit_sink set sequence = sequence + 1, dropped = dropped - $2, failures = 0, failing_since = null,
        error = null, next_at = now()
      where claim = $1 returning claim
    )
    delete from audit_outbox where id = any ($3::bigint[]) and exists (select from confirmed)`,
  fail: `
    update audit_sink set failures = failures + 1, failing_since = coalesce(failing_since, now()), error = $2,
      next_at = now() + $3 * interval '1 millisecond'
    where claim = $1`,
  readAge: `
    select extract(epoch from now() - created_at)::float8 as seconds from audit_outbox order by id limit 1`,
  drop: `
    with dropped as (
      delete from audit_outbox
      where ctid = any (array(select ctid from audit_outbox where created_at < $1 order by id limit 5000))
      returning actions
    )
    update audit_sink set dropped = dropped + (select sum(actions) from dropped)
    where exists (select from dropped)
    returning (select sum(actions) from dropped)::bigint as actions`,
});

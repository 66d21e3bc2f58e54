import type { Action, ActionBook, Book, Usage, UsageBook } from "../../core/history.ts";
import type { Micros } from "../../core/instant.ts";
import { columnOf, textColumnOf } from "../../storage/columns.ts";
import { type Database, inTransaction, prepared, type Transaction } from "../../storage/database.ts";
import { ensurePartitions, withPartitions } from "../../storage/partitions.ts";
import type { LedgerEntry } from "./entry.ts";

export interface Books {
  readonly database: Database;
  readonly actions: ActionBook;
  readonly usage: UsageBook;
}

type Settled = LedgerEntry & { readonly end: Extract<LedgerEntry["end"], { state: "settled" }> };

/** Names a lease, and sorts as its row does. */
export function keyOf({ meter, day, operationId }: LedgerEntry): string {
  return [meter.userId, meter.service, meter.methodGroup, day, operationId].join(" ");
}

/**
 * Two entries of one lease as one: the furthest end, the latest expiry, and whose it is and who holds it as the earlier
 * one knew them.
 */
export function merge(one: LedgerEntry, other: LedgerEntry): LedgerEntry {
  const [first, second] = [stateNumbers[one.end.state], stateNumbers[other.end.state]];
  const { meter, username, tracecode, holder } = second < first ? other : one;
  const further = second > first ? other : one;
  const expireMs = Math.max(one.expireMs, other.expireMs);
  return { ...further, meter, username, tracecode, holder, expireMs, degraded: one.degraded || other.degraded };
}

/** Leases that an administrator ends, in the transaction that says who did. */
export function createLeaseBook(database: Database): Book<LedgerEntry, LedgerEntry> {
  return {
    prepare: (entries) => ensurePartitions(database, "lease", new Set(entries.map(({ day }) => day))),
    write: async (transaction, entries) => void (await putLeases(transaction, entries)),
  };
}

/**
 * Writes entries, at most one a lease, in one transaction. Rows are only ever raised, so an entry may be written again;
 * the usage and the audit action of a lease are added by the one transaction that settles it.
 */
export async function writeEntries(books: Books, entries: readonly LedgerEntry[]): Promise<void> {
  await withPartitions(books.database, () => write(books, entries));
}

async function write({ database, actions, usage }: Books, entries: readonly LedgerEntry[]): Promise<void> {
  const settled = entries.filter(isSettled);
  await ensurePartitions(database, "lease", new Set(entries.map(({ day }) => day)));
  if (settled.length > 0) {
    await usage.prepare(settled.map(({ day, end }) => ({ day, pointKeys: end.pointKeys })));
    await actions.prepare(settled.map(({ end }) => ({ timeMicros: timeOf(end) })));
  }
  await inTransaction(database, async (transaction) => {
    const raised = await putLeases(transaction, entries);
    const used: Usage[] = [];
    const done: Action[] = [];
    for (const entry of settled) {
      const kept = raised.get(keyOf(entry));
      if (kept === undefined) continue;
      used.push(toUsage(entry, kept));
      done.push(toAction(entry, kept));
    }
    await usage.write(transaction, used);
    await actions.write(transaction, done);
  });
}

// Written out, not spread, here and below: this is done for every calculation there is.
function toUsage({ meter, day, end }: Settled, { username, companyKey }: Kept): Usage {
  const { userId, service, methodGroup } = meter;
  return { userId, username, companyKey, service, methodGroup, day, points: end.points, pointKeys: end.pointKeys };
}

function toAction({ meter, operationId, end }: Settled, { username, companyKey, tracecode, holder }: Kept): Action {
  const { operation, server = holder, points, durationMs, outcome } = end;
  return {
    userId: meter.userId,
    username,
    companyKey,
    service: meter.service,
    methodGroup: meter.methodGroup,
    timeMicros: timeOf(end),
    tracecode,
    operation,
    part: operationId,
    server,
    points,
    durationMs,
    outcome,
  };
}

function timeOf({ endedMs }: Settled["end"]): Micros {
  return Math.round(endedMs * 1000);
}

/** States as the table has them: a lease only ever goes up. */
const stateNumbers = { granted: 0, released: 1, settled: 2 };

function isSettled(entry: LedgerEntry): entry is Settled {
  return entry.end.state === "settled";
}

/** What a lease has known since it was granted: who asked for it, and who its user was. Both may be others by now. */
interface Kept {
  readonly key: string;
  readonly username: string;
  readonly companyKey: string;
  readonly tracecode: string;
  readonly holder: string;
}

/**
 * Puts leases as far as they have come, never back. Returns who held those that this call has settled, by their keys:
 * what is settled already stays as it is.
 */
async function putLeases(transaction: Transaction, entries: readonly LedgerEntry[]) {
  const ends = entries.map(({ end }) => (end.state === "settled" ? end : undefined));
  const { rows } = await transaction
    .raw<{ rows: Kept[] }>(
      `with put as (
         insert into lease as kept (
           user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
           expire_at, state, ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome
         )
         select user_id, service, method_group, date '1970-01-01' + day, operation_id, username, company_key, timezone,
           points, to_timestamp(granted), to_timestamp(expire), state, to_timestamp(ended), tracecode, holder, degraded,
           settled_points, duration_ms, outcome
         from unnest(
           ?::bigint[], ?::smallint[], ?::smallint[], ?::integer[], ?::uuid[], ?::text[], ?::text[], ?::smallint[],
           ?::bigint[], ?::float8[], ?::float8[], ?::smallint[], ?::float8[], ?::uuid[], ?::text[], ?::boolean[],
           ?::bigint[], ?::bigint[], ?::smallint[]
         ) as entry (
           user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted, expire,
           state, ended, tracecode, holder, degraded, settled_points, duration_ms, outcome
         )
         on conflict (user_id, service, method_group, day, operation_id) do update set
           expire_at = greatest(kept.expire_at, excluded.expire_at),
           state = greatest(kept.state, excluded.state),
           ended_at = case when excluded.state = 2 then excluded.ended_at
             else coalesce(kept.ended_at, excluded.ended_at) end,
           degraded = kept.degraded or excluded.degraded,
           settled_points = coalesce(excluded.settled_points, kept.settled_points),
           duration_ms = coalesce(excluded.duration_ms, kept.duration_ms),
           outcome = coalesce(excluded.outcome, kept.outcome)
         where case when excluded.state = 2 then kept.state < 2
           else (kept.state, kept.expire_at, kept.degraded) is distinct from (
             greatest(kept.state, excluded.state), greatest(kept.expire_at, excluded.expire_at),
             kept.degraded or excluded.degraded
           ) end
         returning user_id, service, method_group, day - date '1970-01-01' as day, operation_id, username, company_key,
           tracecode, holder, state
       )
       select concat_ws(' ', user_id, service, method_group, day, operation_id) as key, username,
         company_key as "companyKey", tracecode, holder
       from put where state = 2`,
      [
        columnOf(entries, ({ meter }) => meter.userId),
        columnOf(entries, ({ meter }) => meter.service),
        columnOf(entries, ({ meter }) => meter.methodGroup),
        columnOf(entries, ({ day }) => day),
        columnOf(entries, ({ operationId }) => operationId),
        textColumnOf(entries, ({ username }) => username),
        textColumnOf(entries, ({ meter }) => meter.companyKey),
        columnOf(entries, ({ timezone }) => timezone),
        columnOf(entries, ({ points }) => points),
        columnOf(entries, ({ grantedMs }) => grantedMs / 1000),
        columnOf(entries, ({ expireMs }) => expireMs / 1000),
        columnOf(entries, ({ end }) => stateNumbers[end.state]),
        columnOf(entries, ({ end }) => (end.state === "granted" ? null : end.endedMs / 1000)),
        columnOf(entries, ({ tracecode }) => tracecode),
        textColumnOf(entries, ({ holder }) => holder),
        columnOf(entries, ({ degraded }) => degraded),
        columnOf(ends, (end) => end?.points),
        columnOf(ends, (end) => end?.durationMs),
        columnOf(ends, (end) => end?.outcome),
      ],
    )
    .options(prepared("put_leases"));
  return new Map(rows.map((row) => [row.key, row]));
}

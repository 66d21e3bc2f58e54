import type { Action, ActionBook, Usage, UsageBook } from "../../core/history.ts";
import { type Database, inTransaction, type Transaction } from "../../storage/database.ts";
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

/** Two entries of one lease as one: the furthest end, the latest expiry, and the holder as the earlier one knew him. */
export function merge(one: LedgerEntry, other: LedgerEntry): LedgerEntry {
  const [first, second] = [rank[one.end.state], rank[other.end.state]];
  const { tracecode, holder } = second < first ? other : one;
  const further = second > first ? other : one;
  const expireMs = Math.max(one.expireMs, other.expireMs);
  return { ...further, tracecode, holder, expireMs, degraded: one.degraded || other.degraded };
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
    await usage.prepare(settled.map(toUsage));
    await actions.prepare(settled.map(toAction));
  }
  await inTransaction(database, async (transaction) => {
    await putLeases(transaction, entries);
    if (settled.length === 0) return;
    const raised = await settleLeases(transaction, settled);
    // The lease knows who asked for it; who settles it may be somebody else.
    const counted = settled.flatMap((entry) => {
      const kept = raised.get(keyOf(entry));
      return kept === undefined ? [] : [{ ...entry, ...kept }];
    });
    await usage.write(transaction, counted.map(toUsage));
    await actions.write(transaction, counted.map(toAction));
  });
}

function toUsage({ meter, username, day, end }: Settled): Usage {
  return { ...meter, username, day, points: end.points, pointKeys: end.pointKeys };
}

function toAction({ meter, username, operationId, tracecode, holder, end }: Settled): Action {
  const { endedMs, operation, server = holder, points, durationMs, outcome } = end;
  const timeMicros = Math.round(endedMs * 1000);
  return {
    ...meter,
    username,
    timeMicros,
    tracecode,
    operation,
    part: operationId,
    server,
    points,
    durationMs,
    outcome,
  };
}

const rank = { granted: 0, released: 1, settled: 2 };

function isSettled(entry: LedgerEntry): entry is Settled {
  return entry.end.state === "settled";
}

/** Columns of the key, as arrays for unnest. */
function keyColumns(entries: readonly LedgerEntry[]): unknown[][] {
  return [
    entries.map(({ meter }) => meter.userId),
    entries.map(({ meter }) => meter.service),
    entries.map(({ meter }) => meter.methodGroup),
    entries.map(({ day }) => day),
    entries.map(({ operationId }) => operationId),
  ];
}

async function putLeases(transaction: Transaction, entries: readonly LedgerEntry[]): Promise<void> {
  await transaction.raw(
    `insert into lease as kept (
       user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
       expire_at, state, ended_at, tracecode, holder, degraded
     )
     select user_id, service, method_group, date '1970-01-01' + day, operation_id, username, company_key, timezone,
       points, to_timestamp(granted), to_timestamp(expire), state, to_timestamp(ended), tracecode, holder, degraded
     from unnest(
       ?::bigint[], ?::smallint[], ?::smallint[], ?::integer[], ?::uuid[], ?::text[], ?::text[], ?::smallint[],
       ?::bigint[], ?::float8[], ?::float8[], ?::smallint[], ?::float8[], ?::uuid[], ?::text[], ?::boolean[]
     ) as entry (
       user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted, expire,
       state, ended, tracecode, holder, degraded
     )
     on conflict (user_id, service, method_group, day, operation_id) do update set
       expire_at = greatest(kept.expire_at, excluded.expire_at),
       state = greatest(kept.state, excluded.state),
       ended_at = coalesce(kept.ended_at, excluded.ended_at),
       degraded = kept.degraded or excluded.degraded
     where (kept.state, kept.expire_at, kept.degraded) is distinct from (
       greatest(kept.state, excluded.state), greatest(kept.expire_at, excluded.expire_at),
       kept.degraded or excluded.degraded
     )`,
    [
      ...keyColumns(entries),
      entries.map(({ username }) => username),
      entries.map(({ meter }) => meter.companyKey),
      entries.map(({ timezone }) => timezone),
      entries.map(({ points }) => points),
      entries.map(({ grantedMs }) => grantedMs / 1000),
      entries.map(({ expireMs }) => expireMs / 1000),
      // A settled lease is raised by settleLeases, which must see that it was not settled before.
      entries.map(({ end }) => (end.state === "released" ? 1 : 0)),
      entries.map(({ end }) => (end.state === "released" ? end.endedMs / 1000 : null)),
      entries.map(({ tracecode }) => tracecode),
      entries.map(({ holder }) => holder),
      entries.map(({ degraded }) => degraded),
    ] as never,
  );
}

/** Settles leases that are not, and returns who held those that this call has settled, by their keys. */
async function settleLeases(transaction: Transaction, entries: readonly Settled[]) {
  const { rows } = await transaction.raw<{ rows: { key: string; tracecode: string; holder: string }[] }>(
    `update lease set state = 2, settled_points = entry.points, ended_at = to_timestamp(entry.ended),
       duration_ms = entry.duration_ms, outcome = entry.outcome
     from unnest(
       ?::bigint[], ?::smallint[], ?::smallint[], ?::integer[], ?::uuid[], ?::bigint[], ?::float8[], ?::float8[],
       ?::smallint[]
     ) as entry (user_id, service, method_group, day, operation_id, points, ended, duration_ms, outcome)
     where lease.user_id = entry.user_id and lease.service = entry.service
       and lease.method_group = entry.method_group and lease.day = date '1970-01-01' + entry.day
       and lease.operation_id = entry.operation_id and lease.state < 2
     returning concat_ws(
         ' ', lease.user_id, lease.service, lease.method_group, entry.day, lease.operation_id
       ) as key, lease.tracecode, lease.holder`,
    [
      ...keyColumns(entries),
      entries.map(({ end }) => end.points),
      entries.map(({ end }) => end.endedMs / 1000),
      entries.map(({ end }) => end.durationMs ?? null),
      entries.map(({ end }) => end.outcome),
    ] as never,
  );
  return new Map(rows.map(({ key, tracecode, holder }) => [key, { tracecode, holder }]));
}

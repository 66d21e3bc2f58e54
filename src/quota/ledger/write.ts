import { type Database, inTransaction, type Transaction } from "../../storage/database.ts";
import type { LedgerEntry } from "./ledger.ts";
import { ensurePartitions } from "./partitions.ts";

type Settled = LedgerEntry & { readonly end: Extract<LedgerEntry["end"], { state: "settled" }> };

/** Names a lease, and sorts as its row does. */
export function keyOf({ meter, day, operationId }: LedgerEntry): string {
  return [meter.userId, meter.service, meter.methodGroup, day, operationId].join(" ");
}

/** Two entries of one lease as one: the furthest end, the latest expiry. */
export function merge(one: LedgerEntry, other: LedgerEntry): LedgerEntry {
  const further = rank[other.end.state] > rank[one.end.state] ? other : one;
  return { ...further, expireMs: Math.max(one.expireMs, other.expireMs), degraded: one.degraded || other.degraded };
}

/**
 * Writes entries, at most one a lease, in one transaction. Rows are only ever raised, so an entry may be written again;
 * the usage of a lease is added by the one transaction that settles it.
 */
export async function writeEntries(database: Database, entries: readonly LedgerEntry[]): Promise<void> {
  const settled = entries.filter(isSettled);
  await ensurePartitions(database, "lease", new Set(entries.map(({ day }) => day)));
  const withPoints = settled.filter(({ end }) => end.pointKeys.length > 0);
  await ensurePartitions(database, "usage_point", new Set(withPoints.map(({ day }) => day)));
  await inTransaction(database, async (transaction) => {
    await putLeases(transaction, entries);
    if (settled.length === 0) return;
    const raised = await settleLeases(transaction, settled);
    const counted = withPoints.filter((entry) => raised.has(keyOf(entry)));
    if (counted.length > 0) await countUniquePoints(transaction, counted);
  });
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

/** Settles leases that are not, adds up their usage, and returns the keys of those that this call has settled. */
async function settleLeases(transaction: Transaction, entries: readonly Settled[]): Promise<Set<string>> {
  const { rows } = await transaction.raw<{ rows: { key: string }[] }>(
    `with entry as (
       select * from unnest(
         ?::bigint[], ?::smallint[], ?::smallint[], ?::integer[], ?::uuid[], ?::bigint[], ?::float8[], ?::float8[],
         ?::smallint[]
       ) as entry (user_id, service, method_group, day, operation_id, points, ended, duration_ms, outcome)
     ),
     raised as (
       update lease set state = 2, settled_points = entry.points, ended_at = to_timestamp(entry.ended),
         duration_ms = entry.duration_ms, outcome = entry.outcome
       from entry
       where lease.user_id = entry.user_id and lease.service = entry.service
         and lease.method_group = entry.method_group and lease.day = date '1970-01-01' + entry.day
         and lease.operation_id = entry.operation_id and lease.state < 2
       returning lease.*
     ),
     added as (
       insert into usage_day as kept (
         date, user_id, service, method_group, username, company_key, requests, points, unique_points
       )
       select day, user_id, service, method_group, min(username), min(company_key), count(*), sum(settled_points), 0
       from raised group by day, user_id, service, method_group order by user_id, service, method_group, day
       on conflict (user_id, date, service, method_group) do update set
         requests = kept.requests + excluded.requests, points = kept.points + excluded.points
     )
     select concat_ws(' ', user_id, service, method_group, day - date '1970-01-01', operation_id) as key from raised`,
    [
      ...keyColumns(entries),
      entries.map(({ end }) => end.points),
      entries.map(({ end }) => end.endedMs / 1000),
      entries.map(({ end }) => end.durationMs ?? null),
      entries.map(({ end }) => end.outcome),
    ] as never,
  );
  return new Set(rows.map(({ key }) => key));
}

/** Adds the points that the user's day has not seen before. */
async function countUniquePoints(transaction: Transaction, entries: readonly Settled[]): Promise<void> {
  const each = entries.flatMap(({ meter, day, end }) =>
    // PostgreSQL's 64 bits have a sign.
    end.pointKeys.map((key) => ({ meter, day, key: BigInt.asIntN(64, key).toString() })),
  );
  await transaction.raw(
    `with added as (
       insert into usage_point (user_id, service, method_group, date, point_key)
       select distinct user_id, service, method_group, date '1970-01-01' + day, point_key
       from unnest(?::bigint[], ?::smallint[], ?::smallint[], ?::integer[], ?::bigint[])
         as entry (user_id, service, method_group, day, point_key)
       order by 1, 2, 3, 4, 5
       on conflict do nothing
       returning user_id, service, method_group, date
     ),
     counted as (
       select user_id, service, method_group, date, count(*) as points from added group by 1, 2, 3, 4
     )
     update usage_day set unique_points = unique_points + counted.points from counted
     where usage_day.user_id = counted.user_id and usage_day.service = counted.service
       and usage_day.method_group = counted.method_group and usage_day.date = counted.date`,
    [
      each.map(({ meter }) => meter.userId),
      each.map(({ meter }) => meter.service),
      each.map(({ meter }) => meter.methodGroup),
      each.map(({ day }) => day),
      each.map(({ key }) => key),
    ] as never,
  );
}

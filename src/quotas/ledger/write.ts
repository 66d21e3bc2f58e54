import { createHash } from "node:crypto";
import { columnOf, textColumnOf } from "../../postgres/columns.ts";
import { type Database, inTransaction, type Transaction } from "../../postgres/database.ts";
import { ensurePartitions, withPartitions } from "../../postgres/partitions.ts";
import { defineStatements, keepPlan, queryRows } from "../../postgres/statements.ts";
import type { AlertWriter, DayLimits } from "../../shared/alerts.ts";
import { type Micros, toIsoDay } from "../../shared/calendar.ts";
import type { Action, ActionWriter, RecordWriter, Usage, UsageWriter } from "../../shared/records.ts";
import { chargesOf } from "./charges.ts";
import { isSettled, type LedgerEntry, type SettledEntry } from "./entry.ts";
import { toUuid } from "./lease-id.ts";
import { lateAfterDays } from "./read.ts";

export interface LedgerWriters {
  readonly database: Database;
  readonly actions: ActionWriter;
  readonly usage: UsageWriter;
  /** Absent when no alerts are written. */
  readonly alerts?: AlertWriter | undefined;
}

/** Names a lease, and sorts as its row does. */
export function leaseKeyOf({ meter, day, operationId }: LedgerEntry): string {
  return [meter.userId, meter.service, meter.methodGroup, day, operationId].join(" ");
}

function dayKeyOf({ meter, day }: LedgerEntry): string {
  return [meter.userId, meter.service, meter.methodGroup, day].join(" ");
}

/**
 * Merges two entries of one lease. A settlement wins, then the later grant. Entries of one grant give the later state, the
 * latest expiry, and the user, company and holder of the entry with the earlier state. The company and the holder of a
 * winner that does not know them come from the other entry.
 */
export function mergeEntries(first: LedgerEntry, second: LedgerEntry): LedgerEntry {
  const degraded = first.degraded || second.degraded;
  if (first.grantedMs !== second.grantedMs) {
    const [earlier, later] = first.grantedMs < second.grantedMs ? [first, second] : [second, first];
    const [winner, loser] = isSettled(earlier) ? [earlier, later] : [later, earlier];
    return { ...winner, ...(!winner.isHolderKnown && holderOf(loser)), degraded };
  }
  const [firstState, secondState] = [stateNumbers[first.end.state], stateNumbers[second.end.state]];
  const further = secondState > firstState ? second : first;
  const expireMs = Math.max(first.expireMs, second.expireMs);
  return { ...further, ...holderOf(secondState < firstState ? second : first), expireMs, degraded };
}

function holderOf({ username, companyKey, tracecode, holder, isHolderKnown }: LedgerEntry) {
  return { username, companyKey, tracecode, holder, isHolderKnown };
}

/** Leases that an administrator ends. Written in the transaction of the audit record. */
export function createLeaseWriter(database: Database): RecordWriter<LedgerEntry, LedgerEntry> {
  return {
    prepare: (entries) => ensurePartitions(database, "lease", new Set(entries.map(({ day }) => day))),
    write: async (transaction, entries) => void (await putLeases(transaction, entries)),
  };
}

/** A lease that is settled in the ledger. */
export interface Settlement {
  readonly points: number;
  /** When the lease was granted that was settled: an operation may have been granted again since. */
  readonly grantedMs: number;
}

/**
 * Writes entries, at most one a lease, in one transaction. Rows are only ever raised, so an entry may be written again;
 * the usage and the audit action of a lease are added by the one transaction that settles it.
 * @returns by the keys of the entries, how their leases are settled once this is committed; nothing of one that is not
 */
export async function writeEntries(
  books: LedgerWriters,
  entries: readonly LedgerEntry[],
): Promise<ReadonlyMap<string, Settlement>> {
  return withPartitions(books.database, () => write(books, entries));
}

async function write({ database, actions, usage, alerts }: LedgerWriters, entries: readonly LedgerEntry[]) {
  const settled = entries.filter(isSettled);
  await ensurePartitions(database, "lease", new Set(entries.map(({ day }) => day)));
  if (settled.length > 0) {
    await usage.prepare(settled.map(({ day, end }) => ({ day, pointKeys: end.pointKeys })));
    await actions.prepare(settled.map(({ end }) => ({ timeMicros: timeOf(end) })));
  }
  const limits = alerts === undefined ? noLimits : await findLimits(alerts, settled);
  let alertCount = 0;
  const written = await inTransaction(database, async (transaction) => {
    const put = await putLeases(transaction, entries, limits);
    const { raised } = put;
    const settlements = new Map<string, Settlement>();
    const used: Usage[] = [];
    const done: Action[] = [];
    for (const entry of settled) {
      const key = leaseKeyOf(entry);
      const kept = raised.get(key);
      if (kept === undefined) continue;
      settlements.set(key, { points: entry.end.points, grantedMs: entry.grantedMs });
      used.push(toUsage(entry, kept));
      done.push(toAction(entry, kept));
    }
    if (alerts !== undefined && limits.size > 0) {
      const alertActions = await alerts.write(transaction, chargesOf(settledLeases(settled, put, limits)));
      alertCount = alertActions.length;
      done.push(...alertActions);
    }
    await usage.write(transaction, used);
    await actions.write(transaction, done);
    const unchanged = entries.filter((entry) => !raised.has(leaseKeyOf(entry)));
    for (const [key, settlement] of await findSettlements(transaction, unchanged)) settlements.set(key, settlement);
    return settlements;
  });
  if (alertCount > 0) alerts?.scheduleDelivery();
  return written;
}

type Put = Awaited<ReturnType<typeof putLeases>>;
type LimitsByEntry = ReadonlyMap<LedgerEntry, DayLimits>;
const noLimits: LimitsByEntry = new Map();

/** Finds the limits of settled entries. Users that decide on this server are cached. */
async function findLimits(alerts: AlertWriter, settled: readonly SettledEntry[]): Promise<LimitsByEntry> {
  const limits = new Map<LedgerEntry, DayLimits>();
  await Promise.all(
    settled.map(async (entry) => {
      const { meter, username, day } = entry;
      const found = await alerts.limitsOf({ ...meter, username, day });
      if (found !== undefined) limits.set(entry, found);
    }),
  );
  return limits;
}

/** Returns the leases that this transaction has settled and that have limits. */
function settledLeases(settled: readonly SettledEntry[], { raised, sums }: Put, limits: LimitsByEntry) {
  return settled.flatMap((entry) => {
    const kept = raised.get(leaseKeyOf(entry));
    const found = limits.get(entry);
    const sum = sums.get(dayKeyOf(entry));
    if (kept === undefined || found === undefined || sum === undefined) return [];
    const { username, companyKey, tracecode } = kept;
    return [{ entry, limits: found, username, companyKey, tracecode, ...sum }];
  });
}

/** How leases were settled that a batch did not change, by their keys. */
async function findSettlements(transaction: Transaction, entries: readonly LedgerEntry[]) {
  if (entries.length === 0) return new Map<string, Settlement>();
  const rows = await queryRows<Settlement & { key: string }>(transaction, sql.findSettlements, [
    columnOf(entries, ({ meter }) => meter.userId),
    columnOf(entries, ({ meter }) => meter.service),
    columnOf(entries, ({ meter }) => meter.methodGroup),
    columnOf(entries, ({ day }) => day),
    columnOf(entries, ({ operationId }) => operationId),
    [...new Set(entries.map(({ day }) => toIsoDay(day)))],
  ]);
  return new Map(
    rows.map(({ key, points, grantedMs }) => [key, { points, grantedMs: Math.round(grantedMs) }] as const),
  );
}

// Written out, not spread, here and below: this is done for every calculation there is.
function toUsage({ meter, day, end }: SettledEntry, { username, companyKey }: Kept): Usage {
  const { userId, service, methodGroup } = meter;
  return { userId, username, companyKey, service, methodGroup, day, points: end.points, pointKeys: end.pointKeys };
}

function toAction(entry: SettledEntry, { username, companyKey, tracecode, holder }: Kept): Action {
  const { meter, end } = entry;
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
    part: partOf(entry),
    server,
    points,
    durationMs,
    outcome,
  };
}

/**
 * Distinguishes the actions of leases with equal time, tracecode and operation: a UUID from the lease's key, equal to
 * `md5(key)::uuid` in SQL.
 */
function partOf(entry: LedgerEntry): string {
  return toUuid(createHash("md5").update(leaseKeyOf(entry)).digest("hex"));
}

function timeOf({ endedMs }: SettledEntry["end"]): Micros {
  return Math.round(endedMs * 1000);
}

/** States as the table has them: a lease only ever goes up. */
const stateNumbers = { granted: 0, released: 1, settled: 2 };

/** The caller and the user of a lease at its grant. Both may have changed since. */
interface Kept {
  readonly key: string;
  readonly username: string;
  readonly companyKey: string;
  readonly tracecode: string;
  readonly holder: string;
}

/** The charged points of a day after putLeases, and those of the other days of its window before it. */
interface Sums {
  readonly dayPoints: number;
  readonly otherDayPoints: number;
}

/** A row of a lease has names, a row of a day has sums. */
type PutRow = { readonly [Name in keyof (Kept & Sums)]: (Kept & Sums)[Name] | null } & Pick<Kept, "key">;

/**
 * Inserts leases or advances their state, never back. Adds the points of settled leases to the sums of their day, and
 * notes the days of leases that run long. Returns the leases that this call changed, by their keys, and the sums of the days
 * that have limits. A settled lease does not change. A later grant replaces a released grant of its operation.
 */
async function putLeases(transaction: Transaction, entries: readonly LedgerEntry[], limits = noLimits) {
  const ends = entries.map(({ end }) => (end.state === "settled" ? end : undefined));
  const days = daysOf(limits);
  const rows = await queryRows<PutRow>(transaction, sql.putLeases, [
    columnOf(entries, ({ meter }) => meter.userId),
    columnOf(entries, ({ meter }) => meter.service),
    columnOf(entries, ({ meter }) => meter.methodGroup),
    columnOf(entries, ({ day }) => day),
    columnOf(entries, ({ operationId }) => operationId),
    textColumnOf(entries, ({ username }) => username),
    textColumnOf(entries, ({ companyKey }) => companyKey),
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
    columnOf(entries, ({ isHolderKnown }) => isHolderKnown),
    columnOf(days, ({ entry: { meter } }) => meter.userId),
    columnOf(days, ({ entry: { meter } }) => meter.service),
    columnOf(days, ({ entry: { meter } }) => meter.methodGroup),
    columnOf(days, ({ entry: { day } }) => day),
    columnOf(days, ({ window }) => window?.from),
    columnOf(days, ({ window }) => window?.to),
  ]);
  const raised = new Map<string, Kept>();
  const sums = new Map<string, Sums>();
  for (const row of rows) {
    if (isKept(row)) raised.set(row.key, row);
    else sums.set(row.key, add(sums.get(row.key), row));
  }
  return { raised, sums };
}

function isKept(row: PutRow): row is Kept & PutRow {
  return row.username !== null;
}

function add(sums: Sums | undefined, { dayPoints, otherDayPoints }: PutRow): Sums {
  return {
    dayPoints: (sums?.dayPoints ?? 0) + (dayPoints ?? 0),
    otherDayPoints: (sums?.otherDayPoints ?? 0) + (otherDayPoints ?? 0),
  };
}

/** Returns the days of method groups that have limits, each once, with the window whose points an alert needs. */
function daysOf(limits: LimitsByEntry) {
  const days = new Map<string, { entry: LedgerEntry; window: DayLimits["window"] | undefined }>();
  for (const [entry, { pointsPerDateWindow, window }] of limits) {
    days.set(dayKeyOf(entry), { entry, window: pointsPerDateWindow === undefined ? undefined : window });
  }
  return [...days.values()];
}

/**
 * Conditions of putLeases. In fail-open, two servers may each grant one operation. A release at one of them ends each grant
 * that was made before it, whichever the ledger gets first.
 */
const isEndedBefore =
  "((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)";
const endsLater =
  "((kept.degraded or excluded.degraded) and excluded.state = 1 and kept.granted_at < excluded.ended_at)";
/** The entry is of a later grant than the row, which is not settled. */
const isLater = `(kept.state < 2 and excluded.granted_at > kept.granted_at and not ${isEndedBefore})`;
/** A later grant replaces the values of an earlier one. */
const ofLater = (column: string) => `${column} = case when ${isLater} then excluded.${column} else kept.${column} end`;
/** The holder of a later grant replaces that of an earlier one if the entry knows it. Rare, so it is looked up. */
const ofLaterHolder = (column: string) => `${column} = case when not ${isLater} then kept.${column}
       when (select is_holder_known from entry where (user_id, service, method_group, day, operation_id)
         = (excluded.user_id, excluded.service, excluded.method_group, excluded.day, excluded.operation_id))
       then excluded.${column} else kept.${column} end`;

const sql = defineStatements("ledger-write", {
  putLeases: keepPlan(`
    with entry as materialized (
      select user_id, service, method_group, date '1970-01-01' + day as day, operation_id, username, company_key, timezone,
        points, to_timestamp(granted) as granted_at, to_timestamp(expire) as expire_at, state,
        to_timestamp(ended) as ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome, is_holder_known
      from unnest(
        $1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::uuid[], $6::text[], $7::text[], $8::smallint[],
        $9::bigint[], $10::float8[], $11::float8[], $12::smallint[], $13::float8[], $14::uuid[], $15::text[], $16::boolean[],
        $17::bigint[], $18::bigint[], $19::smallint[], $20::boolean[]
      ) as entry (
        user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted, expire,
        state, ended, tracecode, holder, degraded, settled_points, duration_ms, outcome, is_holder_known
      ),
      -- The trigger that adds up days for servers of the last release leaves this to us.
      set_config('tollgate.adds_charged_days', 'on', true)
    ),
    put as (
      insert into lease as kept (
        user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
        expire_at, state, ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome
      )
      select user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
        expire_at, state, ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome
      from entry
      on conflict (user_id, service, method_group, day, operation_id) do update set
        ${["timezone", "points", "granted_at"].map(ofLater).join(", ")},
        ${["username", "company_key", "tracecode", "holder"].map(ofLaterHolder).join(", ")},
        expire_at = case when ${isLater} then excluded.expire_at
          when excluded.granted_at = kept.granted_at then greatest(kept.expire_at, excluded.expire_at)
          else kept.expire_at end,
        state = case when ${isLater} then excluded.state
          when excluded.granted_at = kept.granted_at or excluded.state = 2 or ${endsLater} then greatest(kept.state, excluded.state)
          else kept.state end,
        ended_at = case when ${isLater} or (excluded.state = 2 and kept.state < 2) then excluded.ended_at
          else coalesce(kept.ended_at, excluded.ended_at) end,
        degraded = kept.degraded or excluded.degraded,
        settled_points = coalesce(kept.settled_points, excluded.settled_points),
        duration_ms = coalesce(kept.duration_ms, excluded.duration_ms),
        outcome = coalesce(kept.outcome, excluded.outcome)
      where (excluded.state < 2 and excluded.degraded and not kept.degraded)
        or (kept.state < 2 and (
          excluded.state = 2 or ${isLater} or (${endsLater} and kept.state = 0) or (
            excluded.granted_at = kept.granted_at
            and (excluded.state > kept.state or excluded.expire_at > kept.expire_at)
          )
        ))
      returning user_id, service, method_group, day, operation_id, username, company_key, tracecode, holder, state
    ),
    changed as (
      select put.*, entry.state = 2 as is_settled, entry.settled_points, entry.timezone
      from put join entry using (user_id, service, method_group, day, operation_id)
    ),
    added as (
      insert into charged_day as kept (user_id, service, method_group, day, timezone, points)
      select user_id, service, method_group, day, min(timezone), sum(settled_points)
      from changed where is_settled group by 1, 2, 3, 4
      -- In key order: two writers must not deadlock.
      order by 1, 2, 3, 4
      on conflict (user_id, service, method_group, day) do update set
        points = kept.points + excluded.points, timezone = least(kept.timezone, excluded.timezone)
      returning user_id, service, method_group, day, points
    ),
    late as (
      insert into late_day as kept (user_id, service, method_group, day, until)
      select user_id, service, method_group, day, max(greatest(expire_at, ended_at))
      from entry where greatest(expire_at, ended_at) > (day + ${lateAfterDays})::timestamp at time zone 'UTC'
      group by 1, 2, 3, 4
      order by 1, 2, 3, 4
      on conflict (user_id, service, method_group, day) do update set until = greatest(kept.until, excluded.until)
    )
    select concat_ws(' ', user_id, service, method_group, day - date '1970-01-01', operation_id) as key, username,
      company_key as "companyKey", tracecode, holder, null::bigint as "dayPoints", null::bigint as "otherDayPoints"
    from changed
    -- The sums that alerts need, as rows of their own: the planner takes the parts above for one row each, and would join
    -- them in nested loops.
    union all
    select concat_ws(' ', user_id, service, method_group, day - date '1970-01-01'), null, null, null, null, points, null
    from added where cardinality($21::bigint[]) > 0
    union all
    select concat_ws(' ', user_id, service, method_group, day), null, null, null, null, null, (
        select coalesce(sum(other.points), 0)::bigint from charged_day as other
        where other.user_id = charge.user_id and other.service = charge.service
          and other.method_group = charge.method_group and other.day >= date '1970-01-01' + window_from
          and other.day < date '1970-01-01' + window_to and other.day <> date '1970-01-01' + charge.day
      )
    from unnest($21::bigint[], $22::smallint[], $23::smallint[], $24::integer[], $25::integer[], $26::integer[])
      as charge (user_id, service, method_group, day, window_from, window_to)`),
  findSettlements: `
    select concat_ws(' ', user_id, service, method_group, day - date '1970-01-01', operation_id) as key,
      settled_points as points, (extract(epoch from granted_at) * 1000)::float8 as "grantedMs"
    from lease join unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::uuid[])
      as entry (user_id, service, method_group, of_day, operation_id)
      using (user_id, service, method_group, operation_id)
    -- The days once more: they name the partitions.
    where day = date '1970-01-01' + of_day and state = 2 and day = any($6::date[])`,
});

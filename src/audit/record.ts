import type { RecordedAction } from "#gen/tollgate/v1/audit_pb.js";
import { columnOf, textColumnOf } from "../postgres/columns.ts";
import { type Database, inTransaction, retryConflicts, type Transaction } from "../postgres/database.ts";
import { withPartitions } from "../postgres/partitions.ts";
import { defineStatements, keepPlan, queryRows } from "../postgres/statements.ts";
import { dayMicros, hourMicros, microsOf } from "../shared/calendar.ts";
import { invalid, type Violation } from "../shared/errors.ts";
import type { Action, ActionWriter, Usage, UsageWriter } from "../shared/records.ts";
import { countPointsParts, maxPoints, pointColumnOf } from "../usage/writer.ts";
import type { UserHistory, UserVersion } from "./user-history.ts";
import { addPendingParts, logActionsPart, noPart } from "./writer.ts";

/** An action, and the usage that it adds unless it was recorded before. */
export interface RecordedUsage {
  readonly action: Action;
  readonly usage: Usage;
}

/** The actions of one call, which are recorded together. */
export interface ActionBatch {
  readonly records: readonly RecordedUsage[];
  /** The records with a new action; set when the batch is written. A batch that is written again keeps them. */
  readonly added: Set<RecordedUsage>;
  /** Indexes of actions that differ from a logged action with the same time, tracecode and operation. */
  contradicted: readonly number[];
}

export interface RecordOptions {
  readonly userHistory: UserHistory;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Retention of actions. */
  readonly retentionDays: number;
}

/**
 * Converts the actions of a request into a batch to write.
 * @param caller the server of actions that name none
 * @throws INVALID_REQUEST that names every action with an unknown user or a time outside the log
 */
export async function toActionBatch(
  { userHistory, now, retentionDays }: RecordOptions,
  actions: readonly RecordedAction[],
  caller: string,
): Promise<ActionBatch> {
  const findVersion = await userHistory.find([...new Set(actions.map(({ username }) => username))]);
  const latest = now() * 1000 + hourMicros;
  const earliest = Math.floor((now() * 1000) / dayMicros - retentionDays) * dayMicros;
  const violations: Violation[] = [];
  const records = actions.flatMap((action, index) => {
    const timeMicros = action.time === undefined ? Number.NaN : microsOf(action.time);
    const user = findVersion(action.username, timeMicros);
    const refuse = (field: string, message: string) =>
      violations.push({ field: `actions[${index}].${field}`, message });
    if (user === undefined) refuse("username", `must be a user who existed at that time: ${action.username}`);
    if (timeMicros < earliest) refuse("time", `must be within the last ${retentionDays} days, which the log keeps`);
    if (!(timeMicros <= latest)) refuse("time", "must be at most one hour ahead of the server's clock");
    return user === undefined ? [] : [toRecord(action, user, timeMicros, caller)];
  });
  if (violations.length > 0) throw invalid(...violations);
  return { records, added: new Set(), contradicted: [] };
}

// Fields are listed, not spread: a batch of a thousand takes a third of the time.
function toRecord(action: RecordedAction, user: UserVersion, timeMicros: number, caller: string): RecordedUsage {
  const { service, methodGroup, points, pointKeys, duration, outcome, operation } = action;
  const { userId, username, companyKey } = user;
  const day = Math.floor((timeMicros + user.timezone * hourMicros) / dayMicros);
  return {
    action: {
      timeMicros,
      tracecode: action.tracecode.toLowerCase(),
      operation,
      userId,
      username,
      companyKey,
      server: action.server || caller,
      service,
      methodGroup,
      points,
      durationMs: duration && Number(duration.seconds) * 1000 + Math.round(duration.nanos / 1e6),
      outcome,
      usageDay: day,
    },
    usage: { day, userId, username, companyKey, service, methodGroup, points, pointKeys },
  };
}

/**
 * Writes batches in one transaction. Sets `added` and `contradicted` of each. If it fails after the commit, the batches are
 * written again: what they have added is then no repeat.
 */
export async function writeActionBatches(writers: RecordedWriters, batches: readonly ActionBatch[]): Promise<void> {
  const { database, actions, usage } = writers;
  const records = batches.flatMap((batch) => batch.records);
  const unchanged = await withPartitions(database, async () => {
    await actions.prepare(records.map(({ action }) => action));
    await usage.prepare(records.map(({ usage: used }) => used));
    return insertRecords(writers, records);
  });
  if (unchanged.size < records.length) actions.scheduleRollUp();
  for (const batch of batches) {
    for (const record of batch.records) if (!unchanged.has(record)) batch.added.add(record);
  }
  const repeated = batches.flatMap((batch) => batch.records.filter((record) => !batch.added.has(record)));
  const contradicted = new Set(
    await actions.findContradicted(
      database,
      repeated.map(({ action }) => action),
    ),
  );
  for (const batch of batches) {
    batch.contradicted = [...batch.records.keys()].filter((index) => {
      const record = batch.records[index];
      return record !== undefined && contradicted.has(record.action);
    });
  }
}

interface RecordedWriters {
  readonly database: Database;
  readonly actions: ActionWriter;
  readonly usage: UsageWriter;
}

/** Returns the records whose action was in the log before, or earlier among the records. */
async function insertRecords(
  { database, actions, usage }: RecordedWriters,
  records: readonly RecordedUsage[],
): Promise<ReadonlySet<RecordedUsage>> {
  const pointCount = records.reduce((sum, { usage: { pointKeys } }) => sum + pointKeys.length, 0);
  const options = { sendsActions: actions.hasSink, countsPoints: pointCount <= maxPoints };
  // Nearly always one statement, which is a transaction of its own.
  if (options.countsPoints) return retryConflicts(() => putRecords(database, records, options));
  // Each piece of the points is sorted by itself, so two such batches of one user can deadlock. Then one of them runs again.
  return inTransaction(database, async (transaction) => {
    const repeated = await putRecords(transaction, records, options);
    const added = records.filter((record) => !repeated.has(record));
    const counts = await usage.countPoints(
      transaction,
      added.map(({ usage: used }) => used),
    );
    await actions.addUniquePoints(transaction, counts);
    return repeated;
  });
}

interface PutOptions {
  readonly sendsActions: boolean;
  /** Whether to count the unique points. Otherwise the caller counts them. */
  readonly countsPoints: boolean;
}

/** Inserts actions and adds the usage of the new ones. Returns the other records. */
async function putRecords(
  on: Database | Transaction,
  records: readonly RecordedUsage[],
  { sendsActions, countsPoints }: PutOptions,
): Promise<ReadonlySet<RecordedUsage>> {
  const rows = await queryRows<{ n: number }>(on, sql.putRecords, [
    columnOf(records, ({ action }) => action.timeMicros),
    columnOf(records, ({ action }) => action.tracecode),
    textColumnOf(records, ({ action }) => action.operation),
    columnOf(records, ({ action }) => action.userId),
    textColumnOf(records, ({ action }) => action.username),
    textColumnOf(records, ({ action }) => action.companyKey),
    textColumnOf(records, ({ action }) => action.server),
    columnOf(records, ({ action }) => action.service),
    columnOf(records, ({ action }) => action.methodGroup),
    columnOf(records, ({ action }) => action.points),
    columnOf(records, ({ action }) => action.durationMs),
    columnOf(records, ({ action }) => action.outcome),
    columnOf(records, ({ usage }) => usage.day),
    pointColumnOf(records, ({ usage }) => (countsPoints ? usage.pointKeys : undefined)),
    sendsActions,
  ]);
  return new Set(rows.flatMap(({ n }) => records[n - 1] ?? []));
}

const sql = defineStatements("audit-record", {
  putRecords: keepPlan(`
    with given as materialized (
      select n::integer as n, timestamptz 'epoch' + micros * interval '1 microsecond' as time, tracecode, operation,
        uuid '${noPart}' as part, user_id, username, company_key, server, service, method_group, points, duration_ms,
        outcome, null::text as resource, date '1970-01-01' + day as usage_day, null::text as visible_company,
        null::text as address, null::integer as times, point_keys::bigint[] as point_keys
      from unnest(
        $1::bigint[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::smallint[],
        $9::smallint[], $10::bigint[], $11::bigint[], $12::smallint[], $13::integer[], $14::text[]
      ) with ordinality as given (
        micros, tracecode, operation, user_id, username, company_key, server, service, method_group, points,
        duration_ms, outcome, day, point_keys, n
      )
    ),
    -- Within a batch, the first of equal actions wins.
    action as materialized (
      select distinct on (time, tracecode, operation, part) * from given order by time, tracecode, operation, part, n
    ),${logActionsPart},
    -- Read only when an action has point keys or is repeated. A full join is never a nested loop, whatever the estimates are.
    put as materialized (
      select action.*, logged.user_id is not null as is_new
      from action full join logged using (time, tracecode, operation, part)
    ),
    seen as (
      select n as place, user_id, service, method_group, usage_day as day, username, company_key, point_keys
      from put where is_new and exists (select from action where point_keys is not null)
    ),${countPointsParts},
    usage as (
      select user_id, service, method_group, day, username, company_key, 0 as requests, 0 as points, unique_points
      from counted_point
    ),${addPendingParts("$15::boolean")}
    select n from given
    where (select count(*) from logged) < (select count(*) from given) and n not in (select n from put where is_new)`),
});

import type { RecordedAction } from "#gen/tollgate/v1/audit_pb.js";
import { type Database, inTransaction } from "../postgres/database.ts";
import { withPartitions } from "../postgres/partitions.ts";
import { dayMicros, hourMicros, microsOf } from "../shared/calendar.ts";
import { invalid, type Violation } from "../shared/errors.ts";
import type { Action, ActionWriter, Usage, UsageWriter } from "../shared/records.ts";
import type { UserHistory, UserVersion } from "./user-history.ts";

/** An action, and the usage that it adds unless it was recorded before. */
export interface RecordedUsage {
  readonly action: Action;
  readonly usage: Usage;
}

/** The actions of one call, which are recorded together. */
export interface ActionBatch {
  readonly records: readonly RecordedUsage[];
  /** Number of new actions; set when the batch is written. */
  recorded: number;
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
  return { records, recorded: 0, contradicted: [] };
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

/** Writes batches in one transaction. Sets `recorded` and `contradicted` of each. */
export async function writeActionBatches(
  { database, actions, usage }: { database: Database; actions: ActionWriter; usage: UsageWriter },
  batches: readonly ActionBatch[],
): Promise<void> {
  const records = batches.flatMap((batch) => batch.records);
  const { added, contradicted } = await withPartitions(database, async () => {
    await actions.prepare(records.map(({ action }) => action));
    await usage.prepare(records.map(({ usage: used }) => used));
    return inTransaction(database, async (transaction) => {
      const written = new Set(
        await actions.write(
          transaction,
          records.map(({ action }) => action),
        ),
      );
      const used = records.filter(({ action }) => written.has(action)).map(({ usage: used }) => used);
      await usage.write(transaction, used);
      const repeats = records.filter(({ action }) => !written.has(action)).map(({ action }) => action);
      return { added: written, contradicted: new Set(await actions.findContradicted(transaction, repeats)) };
    });
  });
  for (const batch of batches) {
    batch.recorded = batch.records.filter(({ action }) => added.has(action)).length;
    batch.contradicted = [...batch.records.keys()].filter((index) => {
      const record = batch.records[index];
      return record !== undefined && contradicted.has(record.action);
    });
  }
}

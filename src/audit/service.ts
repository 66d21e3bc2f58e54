import type { AuditService, RecordedAction } from "#gen/tollgate/v1/audit_pb.js";
import type { Database } from "../postgres/database.ts";
import type { GroupCommit } from "../postgres/group-commit.ts";
import { conflict } from "../shared/errors.ts";
import type { Call, Handlers } from "../shared/handler.ts";
import { pageOf } from "../shared/pagination.ts";
import { bucketsOf, countActions } from "./buckets.ts";
import { toActionMessage } from "./messages.ts";
import { type ActionBatch, type RecordOptions, toActionBatch } from "./record.ts";
import { actionFilterOf, filterByScope } from "./selection.ts";
import { type ActionRow, sortableActionColumns, streamActions } from "./store.ts";

export interface AuditOptions extends RecordOptions {
  readonly database: Database;
  readonly batches: GroupCommit<ActionBatch>;
  /**
   * Finds which of these actions have stored data. Called once per page: a flag in each row would need an index by
   * tracecode on the largest table, and would be wrong once the retention of the data ends.
   */
  readonly findData: (actions: readonly ActionRow[]) => Promise<(action: ActionRow) => boolean>;
}

export function auditHandlers(options: AuditOptions): Handlers<typeof AuditService> {
  const { database, batches, findData, now } = options;

  async function record(actions: readonly RecordedAction[], call: Call) {
    const batch = await toActionBatch(options, actions, call.principal.username);
    await batches.commit(batch);
    // The other actions are recorded, and count as repeated when the caller retries.
    if (batch.contradicted.length > 0) throw contradictedActions(actions, batch.contradicted);
    return { recorded: batch.added.size, repeated: actions.length - batch.added.size };
  }

  return {
    async *readAudit(request, call) {
      const page = pageOf(request, sortableActionColumns);
      const selection = actionFilterOf(request, call.principal, now());
      const [everything, buckets] = await Promise.all([
        bucketsOf(database, filterByScope(call.principal)),
        bucketsOf(database, selection),
      ]);
      call.recordRead({ username: request.username, companyKey: request.companyKey });
      const overall = { total: toUint32(countActions(everything)) };
      yield { statistics: { overall, filter: { total: toUint32(countActions(buckets)) } } };
      const rows = streamActions(database, { selection, buckets, page, signal: call.signal });
      for await (const actions of rows) {
        const hasData = await findData(actions);
        yield { actions: actions.map((action) => toActionMessage(action, hasData(action))) };
      }
    },

    recordActions: ({ actions }, call) => record(actions, call),

    async recordActionStream(requests, call) {
      let recorded = 0n;
      let repeated = 0n;
      for await (const { actions } of requests) {
        const result = await record(actions, call);
        recorded += BigInt(result.recorded);
        repeated += BigInt(result.repeated);
      }
      return { recorded, repeated };
    },
  };
}

/** Caps a total at 4,294,967,295. */
function toUint32(total: number): number {
  return Math.min(total, 0xff_ff_ff_ff);
}

const maxNamed = 10;

function contradictedActions(actions: readonly RecordedAction[], indexes: readonly number[]) {
  const names = indexes.slice(0, maxNamed).map((index) => {
    const { tracecode, operation } = actions[index] as RecordedAction;
    return `actions[${index}] (${tracecode} ${operation})`;
  });
  const more = indexes.length > maxNamed ? ` and ${indexes.length - maxNamed} more` : "";
  return conflict(
    "ACTION_EXISTS",
    `another action of the same time, tracecode and operation is recorded, with another user, service, method group or points: ${names.join(", ")}${more}`,
  );
}

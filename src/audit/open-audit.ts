import type { Logger } from "pino";
import type { Database } from "../postgres/database.ts";
import { createGroupCommit } from "../postgres/group-commit.ts";
import { type ActionWriter, type UsageWriter, weightOf } from "../shared/records.ts";
import { type ActionBatch, writeActionBatches } from "./record.ts";
import type { AuditOptions } from "./service.ts";
import type { UserHistory } from "./user-history.ts";

export interface AuditResources {
  readonly database: Database;
  readonly logger: Logger;
  readonly actions: ActionWriter;
  readonly usage: UsageWriter;
  readonly userHistory: UserHistory;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly retentionDays: number;
  readonly findData: AuditOptions["findData"];
}

/** Creates the dependencies of the audit service. */
export function openAudit({ logger, actions, usage, ...options }: AuditResources): AuditOptions {
  const { database } = options;
  const batches = createGroupCommit<ActionBatch>({
    name: "the audit log",
    logger,
    // From 100 actions on, two batches beside each other are faster than one that is twice as large.
    maxInFlight: 2,
    batchSize: 100,
    async write(written) {
      await writeActionBatches({ database, actions, usage }, written);
      return written.map(() => undefined);
    },
    describe: ({ records }) => ({ tracecodes: records.slice(0, 10).map(({ action }) => action.tracecode) }),
    sizeOf: ({ records }) => records.reduce((sum, { usage: used }) => sum + weightOf(used), 0),
  });
  return { ...options, batches };
}

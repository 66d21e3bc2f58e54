import type { Logger } from "pino";
import { findUserCompanies } from "../accounts/users/store.ts";
import { dropAlerts } from "../alerts/outbox.ts";
import { createRollUp, dropAuditTotals } from "../audit/roll-up.ts";
import { createSecurityLog } from "../audit/security-log.ts";
import { dropUnsentActions } from "../audit/sink-outbox.ts";
import { createUserHistory, type UserHistory, type UserHistoryOptions } from "../audit/user-history.ts";
import { createActionWriter } from "../audit/writer.ts";
import type { Config } from "../config.ts";
import { dropFiles } from "../data/store.ts";
import type { Database } from "../postgres/database.ts";
import { startRetention } from "../postgres/retention.ts";
import { dropChargedDays } from "../quotas/ledger/charged-days.ts";
import { pointDays } from "../quotas/ledger/verify.ts";
import type { ActionWriter, UsageWriter } from "../shared/records.ts";
import type { SecurityLog } from "../shared/security-log.ts";
import { createUsageWriter } from "../usage/writer.ts";
import type { Closers } from "./closers.ts";

/** The writers of audit actions and usage. Each is the only one of its tables in this process. */
export interface RecordWriters {
  readonly actions: ActionWriter;
  readonly usage: UsageWriter;
  readonly securityLog: SecurityLog;
  readonly userHistory: UserHistory;
}

export interface RecordResources {
  readonly database: Database;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Opens the writers of the audit log, the statistics and the security events. */
export function openRecordWriters(
  config: Config,
  { database, logger, now, unnoticedMs }: RecordResources & Pick<UserHistoryOptions, "unnoticedMs">,
  closers: Closers,
): RecordWriters {
  const rollUp = createRollUp({ database, logger });
  closers.push(() => rollUp.stop());
  const actions = createActionWriter(database, rollUp, config.AUDIT_SINK_URL !== "");
  const securityLog = createSecurityLog({
    database,
    logger,
    actions,
    companiesOf: (usernames) => findUserCompanies(database, usernames),
    serverName: config.SERVER_NAME,
    now,
  });
  closers.push(() => securityLog.stop());
  const userHistory = createUserHistory({ database, unnoticedMs });
  return { actions, usage: createUsageWriter(database), securityLog, userHistory };
}

/** Starts retention: deletes rows that are older than the settings allow. */
export function openRetention(config: Config, resources: RecordResources, closers: Closers): void {
  const { database, logger } = resources;
  const stop = startRetention(resources, [
    {
      table: "lease",
      days: config.LEDGER_RETENTION_DAYS,
      async deleteDependents(beforeMs) {
        await dropChargedDays(database, beforeMs);
        await dropAlerts(database, beforeMs);
      },
    },
    { table: "usage_point", days: pointDays },
    {
      table: "audit_action",
      days: config.AUDIT_RETENTION_DAYS,
      async deleteDependents(beforeMs) {
        await dropAuditTotals(database, beforeMs);
        const actions = await dropUnsentActions(database, beforeMs);
        if (actions > 0) logger.error({ actions }, "unsent audit actions dropped");
      },
    },
    {
      table: "data_chunk",
      days: config.DATA_RETENTION_DAYS,
      deleteDependents: (beforeMs) => dropFiles(database, beforeMs),
    },
  ]);
  closers.push(async () => stop());
}

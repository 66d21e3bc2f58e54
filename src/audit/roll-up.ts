import type { Logger } from "pino";
import { tryLockInTransaction } from "../postgres/advisory-locks.ts";
import type { Database } from "../postgres/database.ts";
import { isStatementTimeout } from "../postgres/errors.ts";
import { deleteInBatches, deleteOldRows } from "../postgres/retention.ts";
import { defineStatements, queryRows } from "../postgres/statements.ts";
import { delayAfter } from "../shared/backoff.ts";

/** Moves pending counts of writers into audit_total. A trigger adds their usage to usage_day when they are deleted. */
export interface RollUp {
  /** Schedules a move within three seconds, or later after a failed one. Until then readers add what is pending. */
  scheduleRollUp(): void;
  /** Moves the pending counts once more, and stops. What cannot be moved now stays pending for another server. */
  stop(): Promise<void>;
}

/** Maximum batches per statement. Their cells need little memory. */
const maxBatches = 600;

export interface RollUpOptions {
  readonly database: Database;
  readonly logger: Logger;
  /** A longer delay adds more counts of one user and operation at once. Readers then have more pending counts to add. */
  readonly delayMs?: number;
}

/** Creates the roll-up that moves new counts of actions into the totals, soon after it is scheduled. */
export function createRollUp({ database, logger, delayMs = 3000 }: RollUpOptions): RollUp {
  let timer: NodeJS.Timeout | undefined;
  let moving: Promise<void> | undefined;
  let isStopped = false;
  let failures = 0;
  let batches = maxBatches;

  function scheduleAfter(ms: number): void {
    if (!isStopped) timer ??= setTimeout(() => void begin(), ms).unref();
  }

  async function begin(): Promise<void> {
    timer = undefined;
    if (moving !== undefined) return scheduleAfter(delayMs);
    moving = move().finally(() => {
      moving = undefined;
    });
    await moving;
  }

  async function move(): Promise<void> {
    try {
      while (await moveSome(batches));
      failures = 0;
    } catch (error) {
      // Once for all attempts of an outage.
      if (failures === 0) logger.warn({ err: error }, "audit roll-up failed");
      scheduleAfter(delayAfter({ firstMs: delayMs, mostMs: delayMs * 20 }, failures, Math.random));
      failures += 1;
    }
  }

  /**
   * Moves up to `requested` batches. Halves the number after a statement timeout, and raises it after a success: batches
   * differ in size and databases in speed.
   * @returns whether more may be pending
   */
  async function moveSome(requested: number): Promise<boolean> {
    try {
      const moved = await movePending(database, requested);
      if (moved === undefined) {
        // Another server moves counts, and may have begun before the latest ones of this server.
        scheduleAfter(delayMs);
        return false;
      }
      batches = Math.min(maxBatches, requested + Math.ceil(requested / 10));
      return moved === requested;
    } catch (error) {
      if (!isStatementTimeout(error) || requested === 1) throw error;
      batches = Math.floor(requested / 2);
      return true;
    }
  }

  // A killed server leaves pending counts behind.
  scheduleAfter(delayMs);
  return {
    scheduleRollUp: () => scheduleAfter(delayMs),
    async stop() {
      isStopped = true;
      clearTimeout(timer);
      await moving;
      await begin();
    },
  };
}

/** Deletes the totals of hours and days before `beforeMs`, milliseconds since the epoch. */
export async function dropAuditTotals(database: Database, beforeMs: number): Promise<void> {
  await deleteInBatches(database, sql.deleteTotals, new Date(beforeMs).toISOString());
}

/** @returns the number of moved batches; undefined while another server moves some */
async function movePending(database: Database, batches: number): Promise<number | undefined> {
  return database.transaction(async (transaction) => {
    if (!(await tryLockInTransaction(transaction, "auditRollUp"))) return undefined;
    const [row] = await queryRows<{ moved: number }>(transaction, sql.movePending, [batches]);
    return row?.moved ?? 0;
  });
}

const sql = defineStatements("roll-up", {
  deleteTotals: deleteOldRows("audit_total", "start"),
  movePending: `
    with moved as (
      delete from audit_pending where id in (select id from audit_pending order by id limit $1) returning *
    ),
    cell as (
      select start, user_id, username, company_key, service, method_group, operation, visible_company,
        sum(total) as total
      from moved, unnest(
        starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies
      ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
      where total > 0
      group by 1, 2, 3, 4, 5, 6, 7, 8
    ),
    -- Aggregated by company first: companies are few, users many.
    of_company as (
      select start, company_key, service, method_group, operation, sum(total) as total
      from cell group by 1, 2, 3, 4, 5
    ),
    -- Actions that the partners of another company see: added under that company, subtracted under the user's.
    shown as (
      select start, user_id, username, company_key, service, method_group, operation, seen.company, seen.total
      from cell cross join lateral (
        values (visible_company, cell.total), (company_key, -cell.total)
      ) as seen (company, total)
      where visible_company is not null and seen.company <> ''
    ),
    counted as (
      select 0 as level, '' as name, 1 as span, start, 0 as user_id, '' as company_key, service, method_group,
        operation, total
      from of_company
      union all
      select 0, '', 24, date_trunc('day', start, 'UTC'), 0, '', service, method_group, operation, total
      from of_company
      union all
      select 1, company_key, 1, start, 0, '', service, method_group, operation, total from of_company
      union all
      select 1, company_key, 24, date_trunc('day', start, 'UTC'), 0, '', service, method_group, operation, total
      from of_company
      union all
      select 2, username, 24, date_trunc('day', start, 'UTC'), user_id, company_key, service, method_group,
        operation, total
      from cell
      union all
      select 3, company, 1, start, 0, company_key, service, method_group, operation, total from shown
      union all
      select 3, company, 24, date_trunc('day', start, 'UTC'), 0, company_key, service, method_group, operation, total
      from shown
      union all
      select 4, username || ' ' || company, 24, date_trunc('day', start, 'UTC'), user_id, company_key, service,
        method_group, operation, total
      from shown
    ),
    added as (
      insert into audit_total as kept (
        level, name, span, start, user_id, company_key, service, method_group, operation, total
      )
      select level, name, span, start, user_id, company_key, service, method_group, operation, sum(total)
      from counted group by 1, 2, 3, 4, 5, 6, 7, 8, 9
      on conflict (level, name, span, start, user_id, company_key, service, method_group, operation)
        do update set total = kept.total + excluded.total
    )
    select count(*)::integer as moved from moved`,
});

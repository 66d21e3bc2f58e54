import type { Logger } from "pino";
import { advisoryLocks } from "../postgres/advisory-locks.ts";
import type { Database } from "../postgres/database.ts";
import { isStatementTimeout } from "../postgres/errors.ts";
import { deleteBefore } from "../postgres/retention.ts";

/** Moves what writers have counted into audit_total. */
export interface RollUp {
  /** There is something to move: it is done within a second. Readers count what waits by themselves. */
  scheduleRollUp(): void;
  /** Moves what there is, and stops. */
  stop(): Promise<void>;
}

const delayMs = 1000;
/** Batches at once: so many cells fit in memory many times over. */
const maxBatches = 200;

export function createRollUp({ database, logger }: { database: Database; logger: Logger }): RollUp {
  let timer: NodeJS.Timeout | undefined;
  let moving: Promise<void> | undefined;
  let batches = maxBatches;

  function scheduleRollUp(): void {
    timer ??= setTimeout(() => void begin(), delayMs).unref();
  }

  async function begin(): Promise<void> {
    timer = undefined;
    moving = move().catch((error: unknown) =>
      logger.warn({ err: error }, "the audit log's totals were not brought up to date"),
    );
    await moving;
  }

  async function move(): Promise<void> {
    // Another server that is at it takes this one's, too, or leaves it to the next.
    while (await moveSome(batches));
  }

  /**
   * Batches differ in their cells, and databases in their speed: how many fit is found out by trying.
   * @returns whether there may be more
   */
  async function moveSome(wanted: number): Promise<boolean> {
    try {
      const moved = await movePending(database, wanted);
      batches = Math.min(maxBatches, wanted + Math.ceil(wanted / 10));
      return moved === wanted;
    } catch (error) {
      if (!isStatementTimeout(error) || wanted === 1) throw error;
      batches = Math.floor(wanted / 2);
      return true;
    }
  }

  // What a server left behind that was killed.
  scheduleRollUp();
  return {
    scheduleRollUp,
    async stop() {
      clearTimeout(timer);
      await moving;
      await begin();
    },
  };
}

/** Forgets the totals of the time before, milliseconds since the epoch. */
export async function dropAuditTotals(database: Database, beforeMs: number): Promise<void> {
  await deleteBefore(database, "audit_total", "start", new Date(beforeMs).toISOString());
}

/** @returns how many batches were moved */
async function movePending(database: Database, batches: number): Promise<number> {
  return database.transaction(async (transaction) => {
    const lock = await transaction.raw<{ rows: { free: boolean }[] }>("select pg_try_advisory_xact_lock(?) as free", [
      advisoryLocks.auditRollUp,
    ]);
    if (lock.rows[0]?.free !== true) return 0;
    const { rows } = await transaction.raw<{ rows: { moved: number }[] }>(
      `with moved as (
         delete from audit_pending where id in (select id from audit_pending order by id limit ?) returning *
       ),
       cell as (
         select start, user_id, username, company_key, service, method_group, operation, visible_company,
           sum(total) as total
         from moved, unnest(
           starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies
         ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
         group by 1, 2, 3, 4, 5, 6, 7, 8
       ),
       -- Few, where users are many.
       of_company as (
         select start, company_key, service, method_group, operation, sum(total) as total
         from cell group by 1, 2, 3, 4, 5
       ),
       -- What partners see of another company than the user's: it counts there, and not at the user's.
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
      [batches],
    );
    return rows[0]?.moved ?? 0;
  });
}

import type { Database } from "../../postgres/database.ts";
import { defineStatements, queryRows } from "../../postgres/statements.ts";
import { lateAfterDays } from "./read.ts";

export interface LeaseTotals {
  readonly live: number;
  /** Leases that expired within the last day and were neither settled nor released. */
  readonly expired: number;
}

/** Counts the leases of all servers in the ledger. */
export async function countLeases(database: Database): Promise<LeaseTotals> {
  const days = await queryRows<{ day: string }>(database, sql.listDays, [lateAfterDays]);
  // Days are parameters, so PostgreSQL prunes all other partitions.
  const [totals] = await queryRows<LeaseTotals>(database, sql.countLeases, [days.map(({ day }) => day)]);
  return totals ?? { live: 0, expired: 0 };
}

const sql = defineStatements("count-leases", {
  /** Days that may have live leases, or leases that expired within the last day. */
  listDays: `
    select day::date::text as day from generate_series(current_date - $1::integer - 1, current_date + 1, '1 day') as day
    union
    select day::text from late_day where until > now() - interval '1 day'`,
  countLeases: `
    select (count(*) filter (where expire_at > now()))::float8 as live,
      (count(*) filter (where expire_at <= now()))::float8 as expired
    from lease where state = 0 and day = any($1::date[]) and expire_at > now() - interval '1 day'`,
});

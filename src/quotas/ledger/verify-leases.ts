import type { Database } from "../../postgres/database.ts";
import { defineStatements, queryRows } from "../../postgres/statements.ts";

interface Sum {
  readonly user_id: number;
  readonly service: number;
  readonly method_group: number;
  /** YYYY-MM-DD */
  readonly day: string;
  readonly points: number;
}

/** The days from..to, `to` excluded, YYYY-MM-DD. */
interface Period {
  readonly from: string;
  readonly to: string;
  /** The ledger keeps every lease settled since this day. Default: from. */
  readonly keptFrom?: string;
}

/**
 * Compares the settled leases of a period with the sums that counters are rebuilt from and with the audit log, as far back
 * as the log goes. Compares the settlements of the log with the leases, as far back as leases are kept. May run beside
 * running servers.
 * @returns a line for each difference
 */
export async function verifyLeases(database: Database, { from, to, keptFrom = from }: Period): Promise<string[]> {
  const sums = await queryRows<Omit<Sum, "points"> & { kept: number; settled: number }>(database, sql.compareSums, [
    from,
    to,
  ]);
  const withoutAction = await queryRows<{ day: string; user_id: number; operation_id: string }>(
    database,
    sql.findLeasesWithoutAction,
    [from, to],
  );
  const withoutLease = await queryRows<{ time: string; user_id: number; tracecode: string }>(
    database,
    sql.findActionsWithoutLease,
    [from, to, keptFrom],
  );
  return [
    ...sums.map(
      ({ day, user_id, kept, settled }) =>
        `${day} user ${user_id}: charged_day has ${kept} points, the settled leases have ${settled}`,
    ),
    ...withoutAction.map(
      ({ day, user_id, operation_id }) =>
        `${day} user ${user_id}: the audit log has no action of the settled lease of operation ${operation_id}`,
    ),
    ...withoutLease.map(
      ({ time, user_id, tracecode }) =>
        `${time} user ${user_id}: the ledger has no settled lease of the action with tracecode ${tracecode}`,
    ),
  ];
}

const sql = defineStatements("verify-leases", {
  compareSums: `
    select user_id, service, method_group, day::text, coalesce(kept.points, 0)::float8 as kept,
      coalesce(settled.points, 0)::float8 as settled
    from (select * from charged_day where day >= $1 and day < $2) as kept
    full join (
      select user_id, service, method_group, day, sum(settled_points) as points
      from lease where state = 2 and day >= $1 and day < $2 group by 1, 2, 3, 4
    ) as settled using (user_id, service, method_group, day)
    where coalesce(kept.points, 0) <> coalesce(settled.points, 0) order by 4, 1, 2, 3`,
  findLeasesWithoutAction: `
    select day::text, user_id, operation_id from lease
    where state = 2 and day >= $1 and day < $2 and ended_at >= (select min(time) from audit_action)
      and not exists (
        select from audit_action
        where time between lease.ended_at - interval '1 ms' and lease.ended_at + interval '1 ms'
          and audit_action.user_id = lease.user_id and audit_action.points = lease.settled_points
          -- In 1.0 the part was the operation id.
          and part in (
            operation_id,
            md5(concat_ws(' ', lease.user_id, lease.service, lease.method_group, day - date '1970-01-01', operation_id))::uuid
          )
      )
    order by day, user_id, operation_id`,
  findActionsWithoutLease: `
    select time::text, user_id, tracecode from audit_action
    where time >= greatest($1::timestamptz, $3::timestamptz) and time < $2
      -- Only settlements have a part and points.
      and points is not null and part <> '00000000-0000-0000-0000-000000000000'
      and not exists (
        select from lease
        where lease.user_id = audit_action.user_id and lease.service = audit_action.service
          and lease.method_group = audit_action.method_group and state = 2
          and ended_at between audit_action.time - interval '1 ms' and audit_action.time + interval '1 ms'
          and settled_points = audit_action.points
      )
    order by time, user_id, tracecode`,
});

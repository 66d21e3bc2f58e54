import type { Database } from "../../storage/database.ts";

/** What is known of a user, service and method group on a day, twice. */
export interface UsageDifference {
  /** YYYY-MM-DD */
  readonly date: string;
  readonly username: string;
  readonly user_id: number;
  /** Numbers of Service.Name and Method.Group. */
  readonly service: number;
  readonly method_group: number;
  /** Requests, points and unique points as the usage has them; null where it has no such row. */
  readonly usage: readonly number[] | null;
  /** The same, summed up from the settled leases and their points. */
  readonly ledger: readonly number[] | null;
}

/**
 * How long point keys are kept: until the last calculation of a day is settled. A later one counts all of its points,
 * and unique points cannot be counted again.
 */
export const pointDays = 35;

/**
 * Sums up the leases and the recorded actions of the days from..to, `to` excluded, and returns where the usage says
 * something else. Reads one snapshot, so it may run while the servers do.
 */
export async function verifyUsage(
  database: Database,
  { from, to, today }: { from: string; to: string; today: string },
): Promise<{ compared: number; differences: UsageDifference[] }> {
  const { rows } = await database.raw<{ rows: (UsageDifference & { differs: boolean })[] }>(
    `with used as (
       select day as date, user_id, service, method_group, username, settled_points as points
       from lease where state = 2 and day >= :from and day < :to
       union all
       select usage_day, user_id, service, method_group, username, points
       from audit_action
       where usage_day >= :from and usage_day < :to
         -- The partitions: nobody's day is further from UTC's.
         and time >= :from::date - interval '1 day' and time < :to::date + interval '1 day'
     ),
     settled as (
       select date, user_id, service, method_group, min(username) as username, count(*) as requests,
         sum(points)::bigint as points
       from used group by 1, 2, 3, 4
     ),
     seen as (
       select date, user_id, service, method_group, count(*) as points
       from usage_point where date >= :from and date < :to group by 1, 2, 3, 4
     ),
     compared as (
       select date, user_id, service, method_group, coalesce(kept.username, settled.username) as username,
         case when kept.requests is not null then array[kept.requests, kept.points, kept.unique_points] end as usage,
         case when settled.requests is not null then array[settled.requests, settled.points,
           case when date > :today::date - :pointDays::integer then coalesce(seen.points, 0) else kept.unique_points end
         ] end as ledger
       from (select * from usage_day where date >= :from and date < :to) as kept
       full join settled using (date, user_id, service, method_group)
       left join seen using (date, user_id, service, method_group)
     )
     select date::text, user_id, service, method_group, username, usage::float8[], ledger::float8[],
       usage is distinct from ledger as differs
     from compared order by date, username, user_id, service, method_group`,
    { from, to, today, pointDays },
  );
  return { compared: rows.length, differences: rows.filter(({ differs }) => differs) };
}

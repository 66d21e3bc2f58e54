import type { Database } from "../../postgres/database.ts";

/** What is known of a user, service and method group on a day in a company, twice. */
export interface UsageDifference {
  /** YYYY-MM-DD */
  readonly date: string;
  readonly username: string;
  readonly user_id: number;
  /**
   * Null where the usage and the ledger have not the same companies: there they are compared together, since earlier
   * versions counted all of a day for the company that was its first.
   */
  readonly company_key: string | null;
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
       select day as date, user_id, service, method_group, company_key, username, settled_points as points
       from lease where state = 2 and day >= :from and day < :to
       union all
       select usage_day, user_id, service, method_group, company_key, username, points
       from audit_action
       where usage_day >= :from and usage_day < :to
         -- The partitions: nobody's day is further from UTC's.
         and time >= :from::date - interval '1 day' and time < :to::date + interval '1 day'
     ),
     settled as (
       select date, user_id, service, method_group, company_key, min(username) as username, count(*) as requests,
         sum(points)::bigint as points
       from used group by 1, 2, 3, 4, 5
     ),
     seen as (
       select date, user_id, service, method_group, count(*) as points
       from usage_point where date >= :from and date < :to group by 1, 2, 3, 4
     ),
     paired as (
       select date, user_id, service, method_group, coalesce(kept.username, settled.username) as username,
         kept.requests, kept.points, kept.unique_points,
         settled.requests as settled_requests, settled.points as settled_points,
         case when bool_and(kept.requests is not null and settled.requests is not null) over (
           partition by date, user_id, service, method_group
         ) then company_key end as company_key
       from (select * from usage_day where date >= :from and date < :to) as kept
       full join settled using (date, user_id, service, method_group, company_key)
     ),
     grouped as (
       select date, user_id, service, method_group, company_key, min(username) as username,
         sum(requests) as requests, sum(points) as points, sum(unique_points) as unique_points,
         sum(settled_requests) as settled_requests, sum(settled_points) as settled_points,
         -- Points are not kept by company: what all of them have is what is known.
         sum(sum(unique_points)) over (partition by date, user_id, service, method_group) as all_unique_points
       from paired group by 1, 2, 3, 4, 5
     ),
     compared as (
       select date, user_id, service, method_group, company_key, username,
         case when requests is not null then array[requests, grouped.points, unique_points] end as usage,
         case when settled_requests is not null then array[settled_requests, settled_points,
           case when date > :today::date - :pointDays::integer
             then coalesce(seen.points, 0) - coalesce(all_unique_points - unique_points, 0) else unique_points end
         ] end as ledger
       from grouped left join seen using (date, user_id, service, method_group)
     )
     select date::text, user_id, service, method_group, company_key, username, usage::float8[], ledger::float8[],
       usage is distinct from ledger as differs
     from compared order by date, username, user_id, service, method_group, company_key`,
    { from, to, today, pointDays },
  );
  return { compared: rows.length, differences: rows.filter(({ differs }) => differs) };
}

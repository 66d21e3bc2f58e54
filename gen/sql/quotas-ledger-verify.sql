-- The SQL of src/quotas/ledger/verify.ts. Made by `npm run gen`.

-- verify.findUsageTable
select oid from pg_class where oid = to_regclass('usage_part');

-- verify.compareUsage
with used as (
  select day as date, user_id, service, method_group, company_key, username, settled_points as points
  from lease where state = 2 and day >= $1 and day < $2
  union all
  select usage_day, user_id, service, method_group, company_key, username, points
  from audit_action
  where usage_day >= $1 and usage_day < $2
    -- Prunes partitions: no user's day is further from UTC's.
    and time >= $1::date - interval '1 day' and time < $2::date + interval '1 day'
),
settled as (
  select date, user_id, service, method_group, company_key, min(username) as username, count(*) as requests,
    sum(points)::bigint as points
  from used group by 1, 2, 3, 4, 5
),
seen as (
  select date, user_id, service, method_group, count(*) as points
  from usage_point where date >= $1 and date < $2 group by 1, 2, 3, 4
),
-- One row for a user with two names on the day.
kept as (
  select date, user_id, service, method_group, company_key, min(username) as username, sum(requests) as requests,
    sum(points) as points, sum(unique_points) as unique_points
  from usage_part where date >= $1 and date < $2 group by 1, 2, 3, 4, 5
),
paired as (
  select date, user_id, service, method_group, coalesce(kept.username, settled.username) as username,
    kept.requests, kept.points, kept.unique_points,
    settled.requests as settled_requests, settled.points as settled_points,
    case when bool_and(kept.requests is not null and settled.requests is not null) over (
      partition by date, user_id, service, method_group
    ) then company_key end as company_key
  from kept
  full join settled using (date, user_id, service, method_group, company_key)
),
grouped as (
  select date, user_id, service, method_group, company_key, min(username) as username,
    sum(requests) as requests, sum(points) as points, sum(unique_points) as unique_points,
    sum(settled_requests) as settled_requests, sum(settled_points) as settled_points,
    -- Point keys are not kept by company: only the sum over companies can be compared.
    sum(sum(unique_points)) over (partition by date, user_id, service, method_group) as all_unique_points
  from paired group by 1, 2, 3, 4, 5
),
compared as (
  select date, user_id, service, method_group, company_key, username,
    case when requests is not null then array[requests, grouped.points, unique_points] end as usage,
    case when settled_requests is not null then array[settled_requests, settled_points,
      case when date > $3::date - $4::integer
        then coalesce(seen.points, 0) - coalesce(all_unique_points - unique_points, 0) else unique_points end
    ] end as ledger
  from grouped left join seen using (date, user_id, service, method_group)
)
select date::text, user_id, service, method_group, company_key, username, usage::float8[], ledger::float8[],
  usage is distinct from ledger as differs
from compared order by date, username, user_id, service, method_group, company_key;

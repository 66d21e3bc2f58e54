-- The SQL of src/usage/writer.ts. Made by `npm run gen`.

-- usage-writer.addUsage (keeps its plan)
with usage as materialized (
  select place, user_id, service, method_group, date '1970-01-01' + day as date, username, company_key, points,
    point_keys::bigint[] as point_keys
  from unnest(
    $1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::text[], $6::text[], $7::bigint[], $8::text[]
  ) with ordinality
    as usage (user_id, service, method_group, day, company_key, username, points, point_keys, place)
),
given_point as (
  select distinct on (user_id, service, method_group, date, point_key)
    user_id, service, method_group, date, point_key, company_key
  from usage cross join unnest(point_keys) as point_key
  order by user_id, service, method_group, date, point_key, place
),
new_point as (
  insert into usage_point (user_id, service, method_group, date, point_key)
  select user_id, service, method_group, date, point_key from given_point order by 1, 2, 3, 4, 5
  on conflict do nothing
  returning user_id, service, method_group, date, point_key, true as is_new
),
added_usage as (
  insert into usage_day as kept (
    date, user_id, service, method_group, username, company_key, requests, points, unique_points
  )
  select date, user_id, service, method_group, min(username), company_key, sum(requests), sum(points),
    sum(unique_points)
  from (
    select date, user_id, service, method_group, username, company_key, 1 as requests, points, 0 as unique_points
    from usage
    union all
    -- A full join is never a nested loop, whatever the estimates are.
    select date, user_id, service, method_group, null, company_key, 0, 0, count(is_new)
    from given_point full join new_point using (user_id, service, method_group, date, point_key)
    group by 1, 2, 3, 4, 6
  ) as added
  group by date, user_id, service, method_group, company_key
  order by user_id, service, method_group, date, company_key
  on conflict (user_id, date, service, method_group, company_key) do update set
    requests = kept.requests + excluded.requests, points = kept.points + excluded.points,
    unique_points = kept.unique_points + excluded.unique_points
)
select;

-- usage-writer.countPoints
with given as (
  select distinct on (user_id, service, method_group, date, point_key)
    user_id, service, method_group, date '1970-01-01' + day as date, point_key, company_key
  from unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::text[], $6::bigint[]) with ordinality
    as usage (user_id, service, method_group, day, company_key, point_key, place)
  order by user_id, service, method_group, date, point_key, place
),
added as (
  insert into usage_point (user_id, service, method_group, date, point_key)
  select user_id, service, method_group, date, point_key from given order by 1, 2, 3, 4, 5
  on conflict do nothing
  returning user_id, service, method_group, date, point_key
),
counted as (
  select user_id, service, method_group, date, company_key, count(*) as points
  from added join given using (user_id, service, method_group, date, point_key) group by 1, 2, 3, 4, 5
)
update usage_day set unique_points = unique_points + counted.points from counted
where usage_day.user_id = counted.user_id and usage_day.service = counted.service
  and usage_day.method_group = counted.method_group and usage_day.date = counted.date
  and usage_day.company_key = counted.company_key;

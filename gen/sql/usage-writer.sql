-- The SQL of src/usage/writer.ts. Made by `npm run gen`.

-- usage-writer.countPoints
with seen as (
  select place, user_id, service, method_group, date '1970-01-01' + day as day, username, company_key,
    array[point_key] as point_keys
  from unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::text[], $6::text[], $7::bigint[])
    with ordinality as usage (user_id, service, method_group, day, username, company_key, point_key, place)
),
given_point as (
  select distinct on (user_id, service, method_group, day, point_key)
    user_id, service, method_group, day, point_key, username, company_key
  from seen cross join unnest(point_keys) as point_key
  order by user_id, service, method_group, day, point_key, place
),
new_point as (
  insert into usage_point (user_id, service, method_group, date, point_key)
  -- In key order: two writers must not deadlock.
  select user_id, service, method_group, day, point_key from given_point order by 1, 2, 3, 4, 5
  on conflict do nothing
  returning user_id, service, method_group, date as day, point_key, true as is_new
),
counted_point as (
  -- A full join is never a nested loop, whatever the estimates are.
  select user_id, service, method_group, day, min(username) as username, company_key, count(is_new) as unique_points
  from given_point full join new_point using (user_id, service, method_group, day, point_key)
  group by 1, 2, 3, 4, 6
  having count(is_new) > 0
)
select user_id as "userId", service, method_group as "methodGroup", day::text, username, company_key as "companyKey",
  unique_points as "uniquePoints"
from counted_point;

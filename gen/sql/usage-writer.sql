-- The SQL of src/usage/writer.ts. Made by `npm run gen`.

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

-- The SQL of src/audit/record.ts. Made by `npm run gen`.

-- audit-record.putRecords (keeps its plan)
with given as materialized (
  select n::integer as n, timestamptz 'epoch' + micros * interval '1 microsecond' as time, tracecode, operation,
    uuid '00000000-0000-0000-0000-000000000000' as part, user_id, username, company_key, server, service, method_group, points, duration_ms,
    outcome, null::text as resource, date '1970-01-01' + day as usage_day, null::text as visible_company,
    null::text as address, null::integer as times, point_keys::bigint[] as point_keys
  from unnest(
    $1::bigint[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::smallint[],
    $9::smallint[], $10::bigint[], $11::bigint[], $12::smallint[], $13::integer[], $14::text[]
  ) with ordinality as given (
    micros, tracecode, operation, user_id, username, company_key, server, service, method_group, points,
    duration_ms, outcome, day, point_keys, n
  )
),
-- Within a batch, the first of equal actions wins.
action as materialized (
  select distinct on (time, tracecode, operation, part) * from given order by time, tracecode, operation, part, n
),
logged as (
  insert into audit_action (
    time, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
    duration_ms, outcome, resource, usage_day, visible_company, address, times
  )
  select time, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
    duration_ms, outcome, resource, usage_day, visible_company, address, times
  from action
  -- In key order: two writers must not deadlock.
  order by time, tracecode, operation, part
  on conflict do nothing
  returning time, tracecode, part, user_id, username, company_key, service, method_group, operation,
    visible_company, points, usage_day
),
-- Read only when an action has point keys or is repeated. A full join is never a nested loop, whatever the estimates are.
put as materialized (
  select action.*, logged.user_id is not null as is_new
  from action full join logged using (time, tracecode, operation, part)
),
seen as (
  select n as place, user_id, service, method_group, usage_day as day, username, company_key, point_keys
  from put where is_new and exists (select from action where point_keys is not null)
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
),
usage as (
  select user_id, service, method_group, day, username, company_key, 0 as requests, 0 as points, unique_points
  from counted_point
),
pending as (
  insert into audit_pending (
    starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies,
    usage_days, requests, points, unique_points
  )
  select array_agg(start), array_agg(user_id), array_agg(username), array_agg(company_key), array_agg(service),
    array_agg(method_group), array_agg(operation), array_agg(total), array_agg(visible_company),
    array_agg(usage_day), array_agg(requests), array_agg(points), array_agg(unique_points)
  from (
    select date_trunc('hour', time, 'UTC') as start, user_id, username, company_key, service, method_group,
      operation, visible_company, usage_day, count(*) as total, count(usage_day) as requests,
      coalesce(sum(points) filter (where usage_day is not null), 0)::bigint as points, 0 as unique_points
    from logged group by 1, 2, 3, 4, 5, 6, 7, 8, 9
    union all
    -- Usage without an action. The hour is not used, but servers of the last release expect one.
    select date_trunc('hour', now(), 'UTC'), user_id, username, company_key, service, method_group, '', null, day, 0,
      requests, points, unique_points
    from usage
  ) as cell
  having count(*) > 0
),
unsent as (
  insert into audit_outbox (actions, times, tracecodes, operations, parts)
  select count(*), array_agg(micros order by place), array_agg(tracecode order by place),
    array_agg(operation order by place), array_agg(part order by place)
  from (
    select (extract(epoch from time) * 1000000)::bigint as micros, tracecode, operation, part,
      row_number() over (order by time) as place
    from logged where $15::boolean
  ) as key
  group by (place - 1) / 100 order by min(place)
)
select n from given
where (select count(*) from logged) < (select count(*) from given) and n not in (select n from put where is_new);

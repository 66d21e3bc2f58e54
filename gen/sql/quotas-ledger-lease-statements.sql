-- The SQL of src/quotas/ledger/lease-statements.ts. Made by `npm run gen`.

-- ledger-write.putLeases (keeps its plan)
with entry as materialized (
  select n::integer as n, user_id, service, method_group, date '1970-01-01' + day as day, operation_id, username,
    company_key, timezone, points, to_timestamp(granted) as granted_at, to_timestamp(expire) as expire_at, state,
    to_timestamp(ended) as ended_at, tracecode, holder, degraded, is_holder_known,
    null::bigint as settled_points, null::bigint as duration_ms, null::smallint as outcome
  from unnest(
    $1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::uuid[], $6::text[], $7::text[], $8::smallint[],
    $9::bigint[], $10::float8[], $11::float8[], $12::smallint[], $13::float8[], $14::uuid[], $15::text[], $16::boolean[],
    $17::boolean[]
  ) with ordinality as entry (
    user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted, expire,
    state, ended, tracecode, holder, degraded, is_holder_known, n
  ),
  -- The trigger that adds up days for servers of the last release leaves this to us.
  set_config('tollgate.adds_charged_days', 'on', true)
),
put as (
  insert into lease as kept (
    user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
    expire_at, state, ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome
  )
  select user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
    expire_at, state, ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome
  from entry
  on conflict (user_id, service, method_group, day, operation_id) do update set
    timezone = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then excluded.timezone else kept.timezone end, points = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then excluded.points else kept.points end, granted_at = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then excluded.granted_at else kept.granted_at end,
    username = case when not (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then kept.username
    when (select is_holder_known from entry where (user_id, service, method_group, day, operation_id)
      = (excluded.user_id, excluded.service, excluded.method_group, excluded.day, excluded.operation_id))
    then excluded.username else kept.username end, company_key = case when not (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then kept.company_key
    when (select is_holder_known from entry where (user_id, service, method_group, day, operation_id)
      = (excluded.user_id, excluded.service, excluded.method_group, excluded.day, excluded.operation_id))
    then excluded.company_key else kept.company_key end, tracecode = case when not (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then kept.tracecode
    when (select is_holder_known from entry where (user_id, service, method_group, day, operation_id)
      = (excluded.user_id, excluded.service, excluded.method_group, excluded.day, excluded.operation_id))
    then excluded.tracecode else kept.tracecode end, holder = case when not (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then kept.holder
    when (select is_holder_known from entry where (user_id, service, method_group, day, operation_id)
      = (excluded.user_id, excluded.service, excluded.method_group, excluded.day, excluded.operation_id))
    then excluded.holder else kept.holder end,
    expire_at = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then excluded.expire_at
      when excluded.granted_at = kept.granted_at then greatest(kept.expire_at, excluded.expire_at)
      else kept.expire_at end,
    state = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then excluded.state
      when excluded.granted_at = kept.granted_at or excluded.state = 2 or ((kept.degraded or excluded.degraded) and excluded.state = 1 and kept.granted_at < excluded.ended_at) then greatest(kept.state, excluded.state)
      else kept.state end,
    ended_at = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) or (excluded.state = 2 and kept.state < 2) then excluded.ended_at
      else coalesce(kept.ended_at, excluded.ended_at) end,
    degraded = kept.degraded or excluded.degraded,
    settled_points = coalesce(kept.settled_points, excluded.settled_points),
    duration_ms = coalesce(kept.duration_ms, excluded.duration_ms),
    outcome = coalesce(kept.outcome, excluded.outcome)
  where (excluded.state < 2 and excluded.degraded and not kept.degraded)
    or (kept.state < 2 and (
      excluded.state = 2 or (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) or (((kept.degraded or excluded.degraded) and excluded.state = 1 and kept.granted_at < excluded.ended_at) and kept.state = 0) or (
        excluded.granted_at = kept.granted_at
        and (excluded.state > kept.state or excluded.expire_at > kept.expire_at)
      )
    ))
  returning user_id, service, method_group, day, operation_id, username, company_key, tracecode, holder
),
late as (
  insert into late_day as kept (user_id, service, method_group, day, until)
  select user_id, service, method_group, day, max(greatest(expire_at, ended_at))
  from entry where greatest(expire_at, ended_at) > (day + 3)::timestamp at time zone 'UTC'
  group by 1, 2, 3, 4
  order by 1, 2, 3, 4
  on conflict (user_id, service, method_group, day) do update set until = greatest(kept.until, excluded.until)
)
select n from entry full join put using (user_id, service, method_group, day, operation_id) where put.username is null;

-- ledger-write.settleLeases (keeps its plan)
with entry as materialized (
  select n::integer as n, user_id, service, method_group, date '1970-01-01' + day as day, operation_id, username,
    company_key, timezone, points, to_timestamp(granted) as granted_at, to_timestamp(expire) as expire_at, state,
    to_timestamp(ended) as ended_at, tracecode, holder, degraded, is_holder_known,
    settled_points, duration_ms, outcome, operation, server, point_keys::bigint[] as point_keys
  from unnest(
    $1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::uuid[], $6::text[], $7::text[], $8::smallint[],
    $9::bigint[], $10::float8[], $11::float8[], $12::smallint[], $13::float8[], $14::uuid[], $15::text[], $16::boolean[],
    $17::boolean[], $18::bigint[], $19::bigint[], $20::smallint[], $21::text[], $22::text[], $23::text[]
  ) with ordinality as entry (
    user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted, expire,
    state, ended, tracecode, holder, degraded, is_holder_known, settled_points, duration_ms, outcome, operation, server, point_keys, n
  ),
  -- The trigger that adds up days for servers of the last release leaves this to us.
  set_config('tollgate.adds_charged_days', 'on', true)
),
put as (
  insert into lease as kept (
    user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
    expire_at, state, ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome
  )
  select user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted_at,
    expire_at, state, ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome
  from entry
  on conflict (user_id, service, method_group, day, operation_id) do update set
    timezone = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then excluded.timezone else kept.timezone end, points = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then excluded.points else kept.points end, granted_at = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then excluded.granted_at else kept.granted_at end,
    username = case when not (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then kept.username
    when (select is_holder_known from entry where (user_id, service, method_group, day, operation_id)
      = (excluded.user_id, excluded.service, excluded.method_group, excluded.day, excluded.operation_id))
    then excluded.username else kept.username end, company_key = case when not (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then kept.company_key
    when (select is_holder_known from entry where (user_id, service, method_group, day, operation_id)
      = (excluded.user_id, excluded.service, excluded.method_group, excluded.day, excluded.operation_id))
    then excluded.company_key else kept.company_key end, tracecode = case when not (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then kept.tracecode
    when (select is_holder_known from entry where (user_id, service, method_group, day, operation_id)
      = (excluded.user_id, excluded.service, excluded.method_group, excluded.day, excluded.operation_id))
    then excluded.tracecode else kept.tracecode end, holder = case when not (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then kept.holder
    when (select is_holder_known from entry where (user_id, service, method_group, day, operation_id)
      = (excluded.user_id, excluded.service, excluded.method_group, excluded.day, excluded.operation_id))
    then excluded.holder else kept.holder end,
    expire_at = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then excluded.expire_at
      when excluded.granted_at = kept.granted_at then greatest(kept.expire_at, excluded.expire_at)
      else kept.expire_at end,
    state = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) then excluded.state
      when excluded.granted_at = kept.granted_at or excluded.state = 2 or ((kept.degraded or excluded.degraded) and excluded.state = 1 and kept.granted_at < excluded.ended_at) then greatest(kept.state, excluded.state)
      else kept.state end,
    ended_at = case when (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) or (excluded.state = 2 and kept.state < 2) then excluded.ended_at
      else coalesce(kept.ended_at, excluded.ended_at) end,
    degraded = kept.degraded or excluded.degraded,
    settled_points = coalesce(kept.settled_points, excluded.settled_points),
    duration_ms = coalesce(kept.duration_ms, excluded.duration_ms),
    outcome = coalesce(kept.outcome, excluded.outcome)
  where (excluded.state < 2 and excluded.degraded and not kept.degraded)
    or (kept.state < 2 and (
      excluded.state = 2 or (kept.state < 2 and excluded.granted_at > kept.granted_at and not ((kept.degraded or excluded.degraded) and kept.state = 1 and excluded.granted_at < kept.ended_at)) or (((kept.degraded or excluded.degraded) and excluded.state = 1 and kept.granted_at < excluded.ended_at) and kept.state = 0) or (
        excluded.granted_at = kept.granted_at
        and (excluded.state > kept.state or excluded.expire_at > kept.expire_at)
      )
    ))
  returning user_id, service, method_group, day, operation_id, username, company_key, tracecode, holder
),
late as (
  insert into late_day as kept (user_id, service, method_group, day, until)
  select user_id, service, method_group, day, max(greatest(expire_at, ended_at))
  from entry where greatest(expire_at, ended_at) > (day + 3)::timestamp at time zone 'UTC'
  group by 1, 2, 3, 4
  order by 1, 2, 3, 4
  on conflict (user_id, service, method_group, day) do update set until = greatest(kept.until, excluded.until)
),
changed as materialized (
  select n, user_id, service, method_group, day, operation_id, entry.timezone, entry.state, entry.ended_at,
    entry.settled_points, entry.duration_ms, entry.outcome, entry.operation, entry.server, entry.point_keys,
    put.username, put.company_key, put.tracecode, put.holder, put.username is not null as is_changed
  from entry full join put using (user_id, service, method_group, day, operation_id)
),
settled as materialized (
  select * from changed where is_changed and state = 2
),
added as (
  insert into charged_day as kept (user_id, service, method_group, day, timezone, points)
  select user_id, service, method_group, day, min(timezone), sum(settled_points)
  from settled group by 1, 2, 3, 4
  -- In key order: two writers must not deadlock.
  order by 1, 2, 3, 4
  on conflict (user_id, service, method_group, day) do update set
    points = kept.points + excluded.points, timezone = least(kept.timezone, excluded.timezone)
  returning user_id, service, method_group, day, points
),
seen as (
  select n as place, user_id, service, method_group, day, username, company_key, point_keys from settled
  -- Points come after the charged days in every statement: two writers must not deadlock.
  where (select count(*) from added) is not null
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
  select user_id, service, method_group, day, username, company_key, 1 as requests, settled_points as points,
    0 as unique_points
  from settled
  union all
  select user_id, service, method_group, day, username, company_key, 0, 0, unique_points from counted_point
),
action as not materialized (
  select ended_at as time, tracecode, operation,
    -- Distinguishes the actions of leases with equal time, tracecode and operation.
    md5(concat_ws(' ', user_id, service, method_group, day - date '1970-01-01', operation_id))::uuid as part,
    user_id, username, company_key, coalesce(server, holder) as server, service, method_group,
    settled_points as points, duration_ms, outcome, null::text as resource, null::date as usage_day,
    null::text as visible_company, null::text as address, null::integer as times
  from settled
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
    from logged where $31::boolean
  ) as key
  group by (place - 1) / 100 order by min(place)
)
select n, username, company_key as "companyKey", tracecode, null as "dayKey", null::bigint as "dayPoints",
  null::bigint as "otherDayPoints"
from changed where not is_changed or (state = 2 and $24)
union all
select null, null, null, null, concat_ws(' ', user_id, service, method_group, day - date '1970-01-01'), points, null
from added where cardinality($25::bigint[]) > 0
union all
select null, null, null, null, concat_ws(' ', user_id, service, method_group, day), null, (
    select coalesce(sum(other.points), 0)::bigint from charged_day as other
    where other.user_id = charge.user_id and other.service = charge.service
      and other.method_group = charge.method_group and other.day >= date '1970-01-01' + window_from
      and other.day < date '1970-01-01' + window_to and other.day <> date '1970-01-01' + charge.day
  )
from unnest($25::bigint[], $26::smallint[], $27::smallint[], $28::integer[], $29::integer[], $30::integer[])
  as charge (user_id, service, method_group, day, window_from, window_to);

-- ledger-write.findSettlements
select n::integer, settled_points as points, (extract(epoch from granted_at) * 1000)::float8 as "grantedMs"
from lease join unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::uuid[]) with ordinality
  as entry (user_id, service, method_group, of_day, operation_id, n)
  using (user_id, service, method_group, operation_id)
-- The days once more: they name the partitions.
where day = date '1970-01-01' + of_day and state = 2 and day = any($6::date[]);

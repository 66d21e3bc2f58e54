-- The SQL of src/quotas/ledger/lease-rows.ts. Made by `npm run gen`.

-- ledger-write.putLeases (keeps its plan)
with entry as materialized (
  select user_id, service, method_group, date '1970-01-01' + day as day, operation_id, username, company_key, timezone,
    points, to_timestamp(granted) as granted_at, to_timestamp(expire) as expire_at, state,
    to_timestamp(ended) as ended_at, tracecode, holder, degraded, settled_points, duration_ms, outcome, is_holder_known
  from unnest(
    $1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::uuid[], $6::text[], $7::text[], $8::smallint[],
    $9::bigint[], $10::float8[], $11::float8[], $12::smallint[], $13::float8[], $14::uuid[], $15::text[], $16::boolean[],
    $17::bigint[], $18::bigint[], $19::smallint[], $20::boolean[]
  ) as entry (
    user_id, service, method_group, day, operation_id, username, company_key, timezone, points, granted, expire,
    state, ended, tracecode, holder, degraded, settled_points, duration_ms, outcome, is_holder_known
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
  returning user_id, service, method_group, day, operation_id, username, company_key, tracecode, holder, state
),
changed as (
  select put.*, entry.state = 2 as is_settled, entry.settled_points, entry.timezone
  from put join entry using (user_id, service, method_group, day, operation_id)
),
added as (
  insert into charged_day as kept (user_id, service, method_group, day, timezone, points)
  select user_id, service, method_group, day, min(timezone), sum(settled_points)
  from changed where is_settled group by 1, 2, 3, 4
  -- In key order: two writers must not deadlock.
  order by 1, 2, 3, 4
  on conflict (user_id, service, method_group, day) do update set
    points = kept.points + excluded.points, timezone = least(kept.timezone, excluded.timezone)
  returning user_id, service, method_group, day, points
),
late as (
  insert into late_day as kept (user_id, service, method_group, day, until)
  select user_id, service, method_group, day, max(greatest(expire_at, ended_at))
  from entry where greatest(expire_at, ended_at) > (day + 3)::timestamp at time zone 'UTC'
  group by 1, 2, 3, 4
  order by 1, 2, 3, 4
  on conflict (user_id, service, method_group, day) do update set until = greatest(kept.until, excluded.until)
)
select concat_ws(' ', user_id, service, method_group, day - date '1970-01-01', operation_id) as key, username,
  company_key as "companyKey", tracecode, holder, null::bigint as "dayPoints", null::bigint as "otherDayPoints"
from changed
-- The sums that alerts need, as rows of their own: the planner takes the parts above for one row each, and would join
-- them in nested loops.
union all
select concat_ws(' ', user_id, service, method_group, day - date '1970-01-01'), null, null, null, null, points, null
from added where cardinality($21::bigint[]) > 0
union all
select concat_ws(' ', user_id, service, method_group, day), null, null, null, null, null, (
    select coalesce(sum(other.points), 0)::bigint from charged_day as other
    where other.user_id = charge.user_id and other.service = charge.service
      and other.method_group = charge.method_group and other.day >= date '1970-01-01' + window_from
      and other.day < date '1970-01-01' + window_to and other.day <> date '1970-01-01' + charge.day
  )
from unnest($21::bigint[], $22::smallint[], $23::smallint[], $24::integer[], $25::integer[], $26::integer[])
  as charge (user_id, service, method_group, day, window_from, window_to);

-- ledger-write.findSettlements
select concat_ws(' ', user_id, service, method_group, day - date '1970-01-01', operation_id) as key,
  settled_points as points, (extract(epoch from granted_at) * 1000)::float8 as "grantedMs"
from lease join unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::integer[], $5::uuid[])
  as entry (user_id, service, method_group, of_day, operation_id)
  using (user_id, service, method_group, operation_id)
-- The days once more: they name the partitions.
where day = date '1970-01-01' + of_day and state = 2 and day = any($6::date[]);

-- The SQL of src/audit/writer.ts. Made by `npm run gen`.

-- audit-writer.insertActions (keeps its plan)
insert into audit_action (
  time, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
  duration_ms, outcome, resource, usage_day, visible_company, address, times
)
select timestamptz 'epoch' + micros * interval '1 microsecond', tracecode, operation, part, user_id, username,
  company_key, server, service, method_group, points, duration_ms, outcome, resource,
  date '1970-01-01' + usage_day, visible_company, address, times
from unnest(
  $1::bigint[], $2::uuid[], $3::text[], $4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::smallint[],
  $10::smallint[], $11::bigint[], $12::bigint[], $13::smallint[], $14::text[], $15::integer[],
  $16::text[], $17::text[], $18::integer[]
) as action (
  micros, tracecode, operation, part, user_id, username, company_key, server, service, method_group, points,
  duration_ms, outcome, resource, usage_day, visible_company, address, times
)
-- In key order: two writers must not deadlock.
order by micros, tracecode, operation, part
on conflict do nothing;

-- audit-writer.readInserted
select concat_ws(' ', micros, tracecode, part, operation) as key
from unnest($1::bigint[], $2::uuid[], $3::text[], $4::uuid[]) as action (micros, tracecode, operation, part)
join audit_action using (tracecode, operation, part)
where time = timestamptz 'epoch' + micros * interval '1 microsecond'
  -- Text parameters let the planner exclude partitions, which are then neither read nor locked.
  and time >= $5 and time <= $6
  and audit_action.xmin = pg_current_xact_id()::xid;

-- audit-writer.readLogged
select concat_ws(' ', micros, tracecode, part, operation) as key,
  concat_ws(' ', user_id, service, method_group, coalesce(points::text, '')) as facts
from unnest($1::bigint[], $2::uuid[], $3::text[], $4::uuid[]) as action (micros, tracecode, operation, part)
join audit_action using (tracecode, operation, part)
where time = timestamptz 'epoch' + micros * interval '1 microsecond'
  -- Text parameters let the planner exclude partitions.
  and time >= $5 and time <= $6;

-- audit-writer.insertPendingCounts (keeps its plan)
insert into audit_pending (
  starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies
)
values (
  $1::timestamptz[], $2::bigint[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::text[], $8::bigint[],
  $9::text[]
);

-- audit-writer.insertPendingPoints
insert into audit_pending (
  starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, usage_days, requests,
  points, unique_points
)
select array_agg(date_trunc('hour', now(), 'UTC')), array_agg(user_id), array_agg(username), array_agg(company_key),
  array_agg(service), array_agg(method_group), array_agg(''::text), array_agg(0::bigint), array_agg(day),
  array_agg(0::bigint), array_agg(0::bigint), array_agg(unique_points)
from unnest($1::bigint[], $2::text[], $3::text[], $4::smallint[], $5::smallint[], $6::date[], $7::bigint[])
  as counted (user_id, username, company_key, service, method_group, day, unique_points);

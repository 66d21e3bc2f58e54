-- The SQL of src/audit/sink-outbox.ts. Made by `npm run gen`.

-- sink-outbox.insert (keeps its plan)
insert into audit_outbox (actions, times, tracecodes, operations, parts)
select count(*), array_agg(micros order by place), array_agg(tracecode order by place),
  array_agg(operation order by place), array_agg(part order by place)
from unnest($1::bigint[], $2::uuid[], $3::text[], $4::uuid[]) with ordinality
  as action (micros, tracecode, operation, part, place)
group by (place - 1) / $5::bigint order by min(place);

-- sink-outbox.prepare
insert into audit_sink default values on conflict do nothing;

-- sink-outbox.claim
update audit_sink set claim = claim + 1, next_at = now() + $1 * interval '1 millisecond'
where next_at <= now() and exists (select from audit_outbox)
returning claim, failures, failing_since, sequence + 1 as sequence, dropped;

-- sink-outbox.list
select id, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as recorded, times[1] as first,
  times[actions] as last
from (select *, sum(actions) over (order by id) as total from audit_outbox order by id limit $1) as oldest
where total <= $1 order by id;

-- sink-outbox.read
select outbox.id as entry, action.*
from audit_outbox as outbox
cross join unnest(times, tracecodes, operations, parts) with ordinality
  as key (micros, tracecode, operation, part, place)
left join lateral (
  select (extract(epoch from time) * 1000000)::bigint as micros, tracecode, operation, part, user_id, username,
    company_key, server, service, method_group, points, duration_ms, outcome, resource, address, times
  from audit_action
  where time = timestamptz 'epoch' + key.micros * interval '1 microsecond' and tracecode = key.tracecode
    and operation = key.operation and part = key.part
    -- Text parameters let the planner exclude partitions, which are then neither read nor locked.
    and time >= $2 and time <= $3
  -- One look-up for each key: the planner cannot choose to read all partitions.
  limit 1
) as action on true
where outbox.id = any ($1::bigint[]) order by outbox.id, place;

-- sink-outbox.confirm
with confirmed as (
  update audit_sink set sequence = sequence + 1, dropped = dropped - $2, failures = 0, failing_since = null,
    error = null, next_at = now()
  where claim = $1 returning claim
)
delete from audit_outbox where id = any ($3::bigint[]) and exists (select from confirmed);

-- sink-outbox.fail
update audit_sink set failures = failures + 1, failing_since = coalesce(failing_since, now()), error = $2,
  next_at = now() + $3 * interval '1 millisecond'
where claim = $1;

-- sink-outbox.readAge
select extract(epoch from now() - created_at)::float8 as seconds from audit_outbox order by id limit 1;

-- sink-outbox.drop
with dropped as (
  delete from audit_outbox
  where ctid = any (array(select ctid from audit_outbox where created_at < $1 order by id limit 5000))
  returning actions
)
update audit_sink set dropped = dropped + (select sum(actions) from dropped)
where exists (select from dropped)
returning (select sum(actions) from dropped)::bigint as actions;

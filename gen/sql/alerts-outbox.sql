-- The SQL of src/alerts/outbox.ts. Made by `npm run gen`.

-- outbox.insertAlerts
insert into outbox (
  id, user_id, service, method_group, limit_name, window_from, window_to, threshold, body
)
select id, user_id, service, method_group, limit_name, window_from, window_to, threshold, body
from json_to_recordset($1::json) as alert (
  id uuid, user_id bigint, service smallint, method_group smallint, limit_name text, window_from date,
  window_to date, threshold text, body text
)
-- In key order: two writers must not deadlock.
order by user_id, service, method_group, limit_name, window_from, window_to, threshold
on conflict do nothing returning id;

-- outbox.claimAlerts
update outbox set attempts = attempts + 1, next_at = now() + $2 * interval '1 millisecond'
where id = any (array(
  select id from outbox where state = 0 and next_at <= now() order by next_at limit $1 for update skip locked
))
returning id, body, attempts;

-- outbox.markSent
update outbox set state = 1, error = null where id = $1;

-- outbox.markFailed
update outbox set error = $2, state = case when $3::float8 is null then 2 else 0 end,
  next_at = now() + coalesce($3::float8, 0) * interval '1 millisecond'
where id = $1 and state = 0;

-- outbox.listUnsent
select id, case state when 0 then 'waiting' else 'abandoned' end as state, attempts, created_at::text as created, error,
  body
from outbox where state <> 1 order by created_at, id limit 1000;

-- outbox.countUnsent
select waiting::float8, "oldestSeconds", (select count(*) from outbox where state = 2)::float8 as abandoned
from (
  select count(*) as waiting,
    coalesce(extract(epoch from greatest(now() - min(created_at), interval '0')), 0)::float8 as "oldestSeconds"
  from outbox where state = 0
) as waiting_alerts;

-- outbox.retryAlerts
update outbox set state = 0, attempts = 0, next_at = now() where state = 2 and ($1::uuid is null or id = $1::uuid);

-- outbox.deleteOld
delete from outbox where ctid = any (array(select ctid from outbox where created_at < $1 limit $2));

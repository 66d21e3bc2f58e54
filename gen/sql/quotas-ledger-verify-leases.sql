-- The SQL of src/quotas/ledger/verify-leases.ts. Made by `npm run gen`.

-- verify-leases.compareSums
select user_id, service, method_group, day::text, coalesce(kept.points, 0)::float8 as kept,
  coalesce(settled.points, 0)::float8 as settled
from (select * from charged_day where day >= $1 and day < $2) as kept
full join (
  select user_id, service, method_group, day, sum(settled_points) as points
  from lease where state = 2 and day >= $1 and day < $2 group by 1, 2, 3, 4
) as settled using (user_id, service, method_group, day)
where coalesce(kept.points, 0) <> coalesce(settled.points, 0) order by 4, 1, 2, 3;

-- verify-leases.findLeasesWithoutAction
select day::text, user_id, operation_id from lease
where state = 2 and day >= $1 and day < $2 and ended_at >= (select min(time) from audit_action)
  and not exists (
    select from audit_action
    where time between lease.ended_at - interval '1 ms' and lease.ended_at + interval '1 ms'
      and audit_action.user_id = lease.user_id and audit_action.points = lease.settled_points
      -- In 1.0 the part was the operation id.
      and part in (
        operation_id,
        md5(concat_ws(' ', lease.user_id, lease.service, lease.method_group, day - date '1970-01-01', operation_id))::uuid
      )
  )
order by day, user_id, operation_id;

-- verify-leases.findActionsWithoutLease
select time::text, user_id, tracecode from audit_action
where time >= greatest($1::timestamptz, $3::timestamptz) and time < $2
  -- Only settlements have a part and points.
  and points is not null and part <> '00000000-0000-0000-0000-000000000000'
  and not exists (
    select from lease
    where lease.user_id = audit_action.user_id and lease.service = audit_action.service
      and lease.method_group = audit_action.method_group and state = 2
      and ended_at between audit_action.time - interval '1 ms' and audit_action.time + interval '1 ms'
      and settled_points = audit_action.points
  )
order by time, user_id, tracecode;

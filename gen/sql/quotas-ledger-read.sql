-- The SQL of src/quotas/ledger/read.ts. Made by `npm run gen`.

-- ledger-read.readSnapshot
select
  (select json_agg(found) from (
    (select operation_id, day - date '1970-01-01' as day, timezone, points,
date_part('epoch', granted_at) * 1000 as granted_ms,
date_part('epoch', expire_at) * 1000 as expire_ms,
date_part('epoch', ended_at) * 1000 as ended_ms,
state, settled_points, tracecode, holder, company_key from lease
     where user_id = $1 and service = $2 and method_group = $3 and day >= date '1970-01-01' + $4::integer and state = 0 and expire_at > to_timestamp($5))
    union all
    (select operation_id, day - date '1970-01-01' as day, timezone, points,
date_part('epoch', granted_at) * 1000 as granted_ms,
date_part('epoch', expire_at) * 1000 as expire_ms,
date_part('epoch', ended_at) * 1000 as ended_ms,
state, settled_points, tracecode, holder, company_key from lease
     where user_id = $1 and service = $2 and method_group = $3 and day >= date '1970-01-01' + $4::integer and state > 0 and ended_at > to_timestamp($5)
     order by ended_at desc limit $6)
  ) as found) as leases,
  (select json_agg(summed) from (
    select day - date '1970-01-01' as day, timezone, points from charged_day
    where user_id = $1 and service = $2 and method_group = $3 and day >= date '1970-01-01' + $7::integer
  ) as summed) as sums,
  (select json_agg(day) from late_day
   where user_id = $1 and service = $2 and method_group = $3 and until > to_timestamp($5) and day < date '1970-01-01' + $4::integer) as late_days;

-- ledger-read.readSnapshotWithLateDays
select
  (select json_agg(found) from (
    (select operation_id, day - date '1970-01-01' as day, timezone, points,
date_part('epoch', granted_at) * 1000 as granted_ms,
date_part('epoch', expire_at) * 1000 as expire_ms,
date_part('epoch', ended_at) * 1000 as ended_ms,
state, settled_points, tracecode, holder, company_key from lease
     where user_id = $1 and service = $2 and method_group = $3 and (day >= date '1970-01-01' + $4::integer or day = any($8::date[])) and state = 0 and expire_at > to_timestamp($5))
    union all
    (select operation_id, day - date '1970-01-01' as day, timezone, points,
date_part('epoch', granted_at) * 1000 as granted_ms,
date_part('epoch', expire_at) * 1000 as expire_ms,
date_part('epoch', ended_at) * 1000 as ended_ms,
state, settled_points, tracecode, holder, company_key from lease
     where user_id = $1 and service = $2 and method_group = $3 and (day >= date '1970-01-01' + $4::integer or day = any($8::date[])) and state > 0 and ended_at > to_timestamp($5)
     order by ended_at desc limit $6)
  ) as found) as leases,
  (select json_agg(summed) from (
    select day - date '1970-01-01' as day, timezone, points from charged_day
    where user_id = $1 and service = $2 and method_group = $3 and day >= date '1970-01-01' + $7::integer
  ) as summed) as sums,
  (select json_agg(day) from late_day
   where user_id = $1 and service = $2 and method_group = $3 and until > to_timestamp($5) and day < date '1970-01-01' + $4::integer) as late_days;

-- ledger-read.findLease
  select operation_id, day - date '1970-01-01' as day, timezone, points,
date_part('epoch', granted_at) * 1000 as granted_ms,
date_part('epoch', expire_at) * 1000 as expire_ms,
date_part('epoch', ended_at) * 1000 as ended_ms,
state, settled_points, tracecode, holder, company_key, username from lease
  where user_id = $1 and service = $2 and method_group = $3 and operation_id = $4
    and day between date '1970-01-01' + $5::integer and date '1970-01-01' + $6::integer
  order by granted_at desc limit 1;

-- ledger-read.findMethods
select distinct service, method_group from lease
where user_id = $1 and state = 0 and expire_at > least(to_timestamp($2), now());

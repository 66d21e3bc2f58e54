-- The SQL of src/quotas/ledger/verify-counters.ts. Made by `npm run gen`.

-- verify-counters.findStore
select left(md5(identity::text || (select oid from pg_database where datname = current_database())), 12) as owner,
  generation
from counter_store;

-- verify-counters.sumLedger
select * from (
  select coalesce(sum(points) filter (where place = $4), 0)::float8 as "dayUsed",
    coalesce(sum(points) filter (where place >= $5 and place < $6), 0)::float8 as "windowUsed"
  from (
    select day - date '1970-01-01' as place, points from charged_day
    where user_id = $1 and service = $2 and method_group = $3
  ) as charged
) as used, (
  select coalesce(sum(points) filter (where place = $4), 0)::float8 as "dayReserved",
    coalesce(sum(points) filter (where place >= $5 and place < $6), 0)::float8 as "windowReserved",
    count(*)::float8 as running
  from (
    select day - date '1970-01-01' as place, points from lease
    where user_id = $1 and service = $2 and method_group = $3
      and state = 0 and expire_at > to_timestamp($7::float8 / 1000)
  ) as live
) as reserved;

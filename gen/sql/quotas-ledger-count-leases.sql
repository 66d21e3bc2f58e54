-- The SQL of src/quotas/ledger/count-leases.ts. Made by `npm run gen`.

-- count-leases.listDays
select day::date::text as day from generate_series(current_date - $1::integer - 1, current_date + 1, '1 day') as day
union
select day::text from late_day where until > now() - interval '1 day';

-- count-leases.countLeases
select (count(*) filter (where expire_at > now()))::float8 as live,
  (count(*) filter (where expire_at <= now()))::float8 as expired
from lease where state = 0 and day = any($1::date[]) and expire_at > now() - interval '1 day';

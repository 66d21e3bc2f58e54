-- The SQL of src/accounts/users/totals.ts. Made by `npm run gen`.

-- user-totals.countAll (keeps its plan)
select coalesce(sum(total), 0)::int as total,
  coalesce(sum(active), 0)::int as active,
  coalesce(sum(admins), 0)::int as admins,
  coalesce(sum(active_admins), 0)::int as active_admins
from user_total;

-- user-totals.countOfCompany (keeps its plan)
select coalesce(sum(total), 0)::int as total,
  coalesce(sum(active), 0)::int as active,
  coalesce(sum(admins), 0)::int as admins,
  coalesce(sum(active_admins), 0)::int as active_admins
from user_total where company_key = $1;

-- user-totals.readFirstUsers (keeps its plan)
  select username, name, email, phone, company_key, enabled, roles, timezone, total, active, admins, active_admins
  from (select 1 as place, counted.* from (
select coalesce(sum(total), 0)::int as total,
  coalesce(sum(active), 0)::int as active,
  coalesce(sum(admins), 0)::int as admins,
  coalesce(sum(active_admins), 0)::int as active_admins
from user_total) as counted) as counts
  full join (
    select row_number() over (order by username) as place, listed.*
    from (
      select username, name, email, phone, company_key, enabled, roles, timezone from user_account order by username offset $1 limit $2
    ) as listed
  ) as page using (place)
  order by place;

-- createUserTotals: filter
select count(*)::int as total, count(*) filter (where enabled)::int as active, count(*) filter (where 'ADMIN' = any (roles))::int as admins, count(*) filter (where enabled and 'ADMIN' = any (roles))::int as active_admins
from "user_account"
where search like search_fold($1)
limit $2;

-- The SQL of src/usage/store.ts. Made by `npm run gen`.

-- selectUsage: this month, all users
select "usage_day"."user_id", "usage_day"."username", "usage_day"."company_key", "service", "method_group", "date", "requests", "points", "unique_points"
from "usage_day"
left join "user_account" on "user_account"."id" = "usage_day"."user_id"
where "date" >= $1 and date >= date_trunc('month', ($2::timestamp + coalesce(user_account.timezone, 0) * interval '1 hour')::date) and "date" < $3 and date < ($4::timestamp + coalesce(user_account.timezone, 0) * interval '1 hour')::date
order by "usage_day"."username" asc, "usage_day"."user_id" asc, "date" asc, "service" asc, "method_group" asc, "usage_day"."company_key" asc;

-- selectUsage: a period of a user of a company
select "usage_day"."user_id", "usage_day"."username", "usage_day"."company_key", "service", "method_group", "date", "requests", "points", "unique_points"
from "usage_day"
left join "user_account" on "user_account"."id" = "usage_day"."user_id"
where "date" >= $1 and "date" < $2 and "usage_day"."username" = $3 and "usage_day"."company_key" = $4
order by "usage_day"."username" asc, "usage_day"."user_id" asc, "date" asc, "service" asc, "method_group" asc, "usage_day"."company_key" asc;

-- selectUsage: a period of oneself
select "usage_day"."user_id", "usage_day"."username", "usage_day"."company_key", "service", "method_group", "date", "requests", "points", "unique_points"
from "usage_day"
left join "user_account" on "user_account"."id" = "usage_day"."user_id"
where "date" >= $1 and "date" < $2 and "usage_day"."user_id" = $3
order by "usage_day"."username" asc, "usage_day"."user_id" asc, "date" asc, "service" asc, "method_group" asc, "usage_day"."company_key" asc;

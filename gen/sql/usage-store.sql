-- The SQL of src/usage/store.ts. Made by `npm run gen`.

-- selectUsage: this month, all users
select "usage"."user_id", "usage"."username", "usage"."company_key", "service", "method_group", "date", "requests", "points", "unique_points"
from "usage_part" as "usage"
left join "user_account" on "user_account"."id" = "usage"."user_id"
where "date" >= $1 and date >= date_trunc('month', ($2::timestamp + coalesce(user_account.timezone, 0) * interval '1 hour')::date) and "date" < $3 and date < ($4::timestamp + coalesce(user_account.timezone, 0) * interval '1 hour')::date
order by "usage"."username" asc, "usage"."user_id" asc, "date" asc, "service" asc, "method_group" asc, "usage"."company_key" asc;

-- selectUsage: a period of a user of a company
select "usage"."user_id", "usage"."username", "usage"."company_key", "service", "method_group", "date", "requests", "points", "unique_points"
from "usage_part" as "usage"
left join "user_account" on "user_account"."id" = "usage"."user_id"
where "date" >= $1 and "date" < $2 and "usage"."username" = $3 and "usage"."company_key" = $4
order by "usage"."username" asc, "usage"."user_id" asc, "date" asc, "service" asc, "method_group" asc, "usage"."company_key" asc;

-- selectUsage: a period of oneself
select "usage"."user_id", "usage"."username", "usage"."company_key", "service", "method_group", "date", "requests", "points", "unique_points"
from "usage_part" as "usage"
left join "user_account" on "user_account"."id" = "usage"."user_id"
where "date" >= $1 and "date" < $2 and "usage"."user_id" = $3
order by "usage"."username" asc, "usage"."user_id" asc, "date" asc, "service" asc, "method_group" asc, "usage"."company_key" asc;

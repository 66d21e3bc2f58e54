-- The SQL of src/quotas/limits/store.ts. Made by `npm run gen`.

-- limits.listCompanyUsers
select username from user_account where company_key = $1 order by username limit $2;

-- limits.listQuotas
select service, method_group, points_per_request, points_per_day, points_per_date_window, max_concurrent_execution,
  lower(period)::text as "from", upper(period)::text as "to"
from quota where user_id = $1 order by period nulls first, id;

-- findQuotaOwner: everything
select "id", "company_key"
from "user_account"
where "username" = $1
limit $2;

-- findQuotaOwner: a company
select "id", "company_key"
from "user_account"
where "username" = $1 and "company_key" = $2
limit $3;

-- findQuotaOwner: self
select "id", "company_key"
from "user_account"
where "username" = $1 and "id" = $2
limit $3;

-- lockQuotaOwner
select "id", "company_key"
from "user_account"
where "username" = $1
limit $2
for update;

-- replaceQuotas: the base quota
delete from "quota"
where "user_id" = $1 and "period" is null;

-- replaceQuotas: the base quota
insert into "quota" ("max_concurrent_execution", "method_group", "period", "points_per_date_window", "points_per_day", "points_per_request", "service", "user_id")
values ($1, $2, $3, $4, $5, $6, $7, $8);

-- replaceQuotas: a period
delete from "quota"
where "user_id" = $1 and "period" = $2;

-- replaceQuotas: a period
insert into "quota" ("max_concurrent_execution", "method_group", "period", "points_per_date_window", "points_per_day", "points_per_request", "service", "user_id")
values ($1, $2, $3, $4, $5, $6, $7, $8);

-- deleteQuotaPeriod
delete from "quota"
where "user_id" = $1 and "period" = $2;

-- deleteQuotas
delete from "quota"
where "user_id" = $1;

-- The SQL of src/accounts/companies/store.ts. Made by `npm run gen`.

-- insertCompany
insert into "company" ("detail", "key")
values ($1, $2);

-- ensureCompany
insert into "company" ("key")
values ($1)
on conflict ("key") do nothing;

-- hasCompanyHistory
select "user_id"
from "user_standing"
where "company_key" = $1
limit $2;

-- findCompany: everything
select "key", "detail"
from "company"
where "key" = $1
limit $2;

-- findCompany: a company
select "key", "detail"
from "company"
where "key" = $1 and "key" = $2
limit $3;

-- findCompany: self
select "key", "detail"
from "company"
where 1 = $1 and "key" = $2
limit $3;

-- updateCompany: everything
update "company"
set "detail" = $1
where "key" = $2
returning "key", "detail";

-- deleteCompany
delete from "company"
where "key" = $1;

-- streamCompanies: all
select "key", "detail"
from "company"
order by "detail" asc, "key" asc
limit $1;

-- streamCompanies: filter
select "key", "detail"
from "company"
where "key" = $1 and search like search_fold($2)
order by "key" asc
limit $3;

-- countCompanies: everything
select "total"
from "company_total"
limit $1;

-- countCompanies: a company
select count(*) as "total"
from "company"
where "key" = $1;

-- countMatchingCompanies
select count(*) as "total"
from "company"
where search like search_fold($1);

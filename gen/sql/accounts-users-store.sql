-- The SQL of src/accounts/users/store.ts. Made by `npm run gen`.

-- users.findUser (keeps its plan)
select id, username, name, email, phone, company_key, enabled, roles, timezone from user_account where username = $1;

-- users.findUserOfCompany (keeps its plan)
select id, username, name, email, phone, company_key, enabled, roles, timezone from user_account where username = $1 and company_key = $2;

-- users.findUserItself (keeps its plan)
select id, username, name, email, phone, company_key, enabled, roles, timezone from user_account where username = $1 and id = $2;

-- users.findCompanies (keeps its plan)
select username, company_key from user_account where username = any ($1);

-- users.findAdministrator
select id from user_account
where 'ADMIN' = any (roles) and enabled and password_hash is not null limit 1;

-- insertUser
insert into "user_account" ("company_key", "email", "enabled", "name", "password_hash", "phone", "roles", "timezone", "username")
values ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- findUserForUpdate: everything
select "id", "username", "name", "email", "phone", "company_key", "enabled", "roles", "timezone"
from "user_account"
where "username" = $1
limit $2
for update;

-- findUserForUpdate: a company
select "id", "username", "name", "email", "phone", "company_key", "enabled", "roles", "timezone"
from "user_account"
where "company_key" = $1 and "username" = $2
limit $3
for update;

-- findUserForUpdate: self
select "id", "username", "name", "email", "phone", "company_key", "enabled", "roles", "timezone"
from "user_account"
where "id" = $1 and "username" = $2
limit $3
for update;

-- updateUser: keeps the password
update "user_account"
set "username" = $1, "name" = $2, "email" = $3, "phone" = $4, "company_key" = $5, "enabled" = $6, "roles" = $7, "timezone" = $8
where "id" = $9;

-- updateUser: sets a password
update "user_account"
set "username" = $1, "name" = $2, "email" = $3, "phone" = $4, "company_key" = $5, "enabled" = $6, "roles" = $7, "timezone" = $8, "password_hash" = $9, "token_version" = "token_version" + $10
where "id" = $11;

-- updatePassword
update "user_account"
set "password_hash" = $1, "token_version" = $2
where "id" = $3 and "token_version" = $4
returning "token_version";

-- deleteUser
delete from "user_account"
where "id" = $1;

-- streamUsers: all by name
select "username", "name", "email", "phone", "company_key", "enabled", "roles", "timezone"
from "user_account"
order by "name" asc, "username" asc
limit $1;

-- streamUsers: filter, company, enabled
select "username", "name", "email", "phone", "company_key", "enabled", "roles", "timezone"
from "user_account"
where "company_key" = $1 and search like search_fold($2) and "enabled" = $3
order by "name" asc, "username" asc
limit $4;

-- streamUsers: administrators of a company
select "username", "name", "email", "phone", "company_key", "enabled", "roles", "timezone"
from "user_account"
where "company_key" = $1 and 'ADMIN' = any (roles)
order by "name" asc, "username" asc
limit $2;

-- streamUsers: self
select "username", "name", "email", "phone", "company_key", "enabled", "roles", "timezone"
from "user_account"
where "id" = $1
order by "name" asc, "username" asc
limit $2;

-- The SQL of src/accounts/auth/store.ts. Made by `npm run gen`.

-- findAccountByUsername
select "id", "username", "company_key", "roles", "timezone", "enabled", "password_hash", "token_version"
from "user_account"
where "username" = $1
limit $2;

-- findAccountById
select "id", "username", "company_key", "roles", "timezone", "enabled", "password_hash", "token_version"
from "user_account"
where "id" = $1
limit $2;

-- The SQL of src/accounts/auth/first-administrator.ts. Made by `npm run gen`.

-- first-administrator.findAdministrator
select id from user_account where 'ADMIN' = any (roles) limit 1;

-- first-administrator.findByUsername
select id from user_account where username = $1;

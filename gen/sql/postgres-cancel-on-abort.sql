-- The SQL of src/postgres/cancel-on-abort.ts. Made by `npm run gen`.

-- cancel-on-abort.cancel
select pg_cancel_backend($1);

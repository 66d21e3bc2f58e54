-- The SQL of src/postgres/statements.ts. Made by `npm run gen`.

-- connection.check
select 1;

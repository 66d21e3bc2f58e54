-- The SQL of src/postgres/advisory-locks.ts. Made by `npm run gen`.

-- advisory-locks.lock
select pg_advisory_xact_lock($1);

-- advisory-locks.lockEach
select pg_advisory_xact_lock($1, number) from unnest($2::integer[]) as number;

-- advisory-locks.tryLock
select pg_try_advisory_xact_lock($1) as free;

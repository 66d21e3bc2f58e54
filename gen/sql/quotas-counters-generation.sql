-- The SQL of src/quotas/counters/generation.ts. Made by `npm run gen`.

-- generation.readGeneration
select generation from counter_store;

-- generation.putGeneration
insert into counter_store as kept (run_id, generation) values ($1, greatest(1, $2::bigint))
on conflict (id) do update set run_id = excluded.run_id, generation = greatest($2::bigint,
  kept.generation
    + case when kept.run_id = excluded.run_id and kept.generation is distinct from $3::bigint then 0 else 1 end)
-- A copy of the database in the same server has the same identity but another oid.
returning generation, left(md5(identity::text || (
  select oid from pg_database where datname = current_database()
)), 12) as owner;

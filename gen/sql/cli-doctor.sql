-- The SQL of src/cli/doctor.ts. Made by `npm run gen`.

-- cli-doctor.readServerState
select current_setting('server_version_num')::integer as version, current_setting('server_encoding') as encoding,
  lower('É') = 'é' as folds,
  array(
    select name from unnest(array['pg_trgm', 'btree_gist']) as name
    where name not in (select name from pg_available_extensions)
  ) as missing,
  (extract(epoch from clock_timestamp()) * 1000)::float8 as now,
  (select rolsuper from pg_roles where rolname = current_user) as superuser,
  to_regclass('migration') is not null as migrated;

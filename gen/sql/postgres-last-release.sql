-- The SQL of src/postgres/last-release.ts. Made by `npm run gen`.

-- last-release.findSessions
select pid from pg_stat_activity where datname = current_database() and application_name = $1;

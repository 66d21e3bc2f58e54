-- The SQL of src/postgres/stream.ts. Made by `npm run gen`.

-- stream.raiseTimeout
select pg_backend_pid() as pid, set_config(name, greatest(setting::bigint, $1::bigint)::text, true)
from pg_settings where name = 'statement_timeout';

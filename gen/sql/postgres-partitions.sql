-- The SQL of src/postgres/partitions.ts. Made by `npm run gen`.

-- partitions.list
select relname as name,
  case when inhrelid is null then 'detached' when inhdetachpending then 'detaching' else 'attached' end as state
from pg_class left join pg_inherits on inhrelid = pg_class.oid
where relnamespace = (select relnamespace from pg_class where oid = $1::regclass) and relname ~ $2
order by inhrelid is not null, not inhdetachpending, relname;

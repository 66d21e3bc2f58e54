-- The SQL of src/audit/store.ts. Made by `npm run gen`.

-- streamActions: all by time
select "tracecode", "operation", "user_id", "username", "company_key", "server", "service", "method_group", "points", "duration_ms", "outcome", "resource", "address", "times", (extract(epoch from time) * 1000000)::bigint as micros
from "audit_action"
where "time" >= $1 and "time" < $2
order by "time" desc, "tracecode" desc, "operation" desc, "part" desc
limit $3;

-- streamActions: failures of a service by client
select "tracecode", "operation", "user_id", "username", "company_key", "server", "service", "method_group", "points", "duration_ms", "outcome", "resource", "address", "times", (extract(epoch from time) * 1000000)::bigint as micros
from "audit_action"
where "time" >= $1 and "time" < $2 and "service" = $3 and outcome <> 1
order by "company_key" desc, "username" desc, "time" desc, "tracecode" desc, "operation" desc, "part" desc
limit $4;

-- streamActions: one user of a company, as a partner sees it
select "tracecode", "operation", "user_id", "username", "company_key", "server", "service", "method_group", "points", "duration_ms", "outcome", "resource", "address", "times", (extract(epoch from time) * 1000000)::bigint as micros
from ((select *
    from "audit_action"
    where "time" >= $1 and "time" < $2 and "username" = $3 and outcome <> 1 and outcome = $4 and "company_key" = $5 and "company_key" = $6 and "visible_company" is null
    order by "time" desc, "tracecode" desc, "operation" desc, "part" desc
    limit $7)
  union all (select *
    from "audit_action"
    where "time" >= $8 and "time" < $9 and "username" = $10 and outcome <> 1 and outcome = $11 and "company_key" = $12 and "visible_company" = $13
    order by "time" desc, "tracecode" desc, "operation" desc, "part" desc
    limit $14)) as "audit_action"
order by "time" desc, "tracecode" desc, "operation" desc, "part" desc
limit $15;

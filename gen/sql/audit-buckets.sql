-- The SQL of src/audit/buckets.ts. Made by `npm run gen`.

-- bucketsOf: all
select "start", "end", sum(total)::bigint as total, bool_and(changes) as changes
from (select $1::bigint as start, $2::bigint as end, count(*) * 1 as total, bool_and(service = 4) as changes
  from "audit_action"
  where "time" >= $3 and "time" < $4
  having count(*) > 0
  union all select (extract(epoch from start) * 1000000)::bigint as start, (extract(epoch from start) * 1000000)::bigint + $5::bigint as end, sum(total)::bigint as total, bool_and(service = 4) as changes
  from (select "start", "service", "total"
    from "audit_total"
    where "level" = $6 and "name" = $7 and "span" = $8 and "start" >= $9 and "start" < $10
    union all select date_trunc($11, start, 'UTC') as start, "service", "total"
    from audit_pending, unnest( starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
    where "start" >= $12 and "start" < $13) as "cell"
  group by "start"
  union all select (extract(epoch from start) * 1000000)::bigint as start, (extract(epoch from start) * 1000000)::bigint + $14::bigint as end, sum(total)::bigint as total, bool_and(service = 4) as changes
  from (select "start", "service", "total"
    from "audit_total"
    where "level" = $15 and "name" = $16 and "span" = $17 and "start" >= $18 and "start" < $19
    union all select date_trunc($20, start, 'UTC') as start, "service", "total"
    from audit_pending, unnest( starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
    where "start" >= $21 and "start" < $22) as "cell"
  group by "start"
  union all select (extract(epoch from start) * 1000000)::bigint as start, (extract(epoch from start) * 1000000)::bigint + $23::bigint as end, sum(total)::bigint as total, bool_and(service = 4) as changes
  from (select "start", "service", "total"
    from "audit_total"
    where "level" = $24 and "name" = $25 and "span" = $26 and "start" >= $27 and "start" < $28
    union all select date_trunc($29, start, 'UTC') as start, "service", "total"
    from audit_pending, unnest( starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
    where "start" >= $30 and "start" < $31) as "cell"
  group by "start"
  union all select $32::bigint as start, $33::bigint as end, count(*) * 1 as total, bool_and(service = 4) as changes
  from "audit_action"
  where "time" >= $34 and "time" < $35
  having count(*) > 0) as "bucket"
group by "start", "end"
having sum(total) > 0
order by "start" asc;

-- bucketsOf: by hour
select "start", "end", sum(total)::bigint as total, bool_and(changes) as changes
from (select (extract(epoch from start) * 1000000)::bigint as start, (extract(epoch from start) * 1000000)::bigint + $1::bigint as end, sum(total)::bigint as total, bool_and(service = 4) as changes
  from (select "start", "service", "total"
    from "audit_total"
    where "level" = $2 and "name" = $3 and "span" = $4 and "start" >= $5 and "start" < $6
    union all select date_trunc($7, start, 'UTC') as start, "service", "total"
    from audit_pending, unnest( starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
    where "start" >= $8 and "start" < $9) as "cell"
  group by "start") as "bucket"
group by "start", "end"
having sum(total) > 0
order by "start" asc;

-- bucketsOf: successes of a user
select "start", "end", sum(total)::bigint as total, bool_and(changes) as changes
from (select (extract(epoch from start) * 1000000)::bigint as start, (extract(epoch from start) * 1000000)::bigint + $1::bigint as end, sum(total)::bigint as total, bool_and(service = 4) as changes
  from (select "start", "service", "total"
    from "audit_total"
    where "level" = $2 and "name" = $3 and "span" = $4 and "start" >= $5 and "start" < $6
    union all select date_trunc($7, start, 'UTC') as start, "service", "total"
    from audit_pending, unnest( starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
    where "username" = $8 and "start" >= $9 and "start" < $10) as "cell"
  group by "start"
  union all select (extract(epoch from date_trunc('day', time, 'UTC')) * 1000000)::bigint as start, (extract(epoch from date_trunc('day', time, 'UTC')) * 1000000)::bigint + $11::bigint as end, count(*) * -1 as total, bool_and(service = 4) as changes
  from "audit_action"
  where "time" >= $12 and "time" < $13 and "username" = $14 and outcome <> 1
  group by date_trunc('day', time, 'UTC')
  having count(*) > 0
  union all select $15::bigint as start, $16::bigint as end, count(*) * 1 as total, bool_and(service = 4) as changes
  from "audit_action"
  where "time" >= $17 and "time" < $18 and "username" = $19 and "outcome" = $20
  having count(*) > 0) as "bucket"
group by "start", "end"
having sum(total) > 0
order by "start" asc;

-- bucketsOf: a company, as a partner sees it
select "start", "end", sum(total)::bigint as total, bool_and(changes) as changes
from (select (extract(epoch from start) * 1000000)::bigint as start, (extract(epoch from start) * 1000000)::bigint + $1::bigint as end, sum(total)::bigint as total, bool_and(service = 4) as changes
  from (select "start", "service", "total"
    from "audit_total"
    where "level" = $2 and "name" = $3 and "span" = $4 and "start" >= $5 and "start" < $6
    union all select "start", "service", "total"
    from "audit_total"
    where "level" = $7 and "name" = $8 and "span" = $9 and "start" >= $10 and "start" < $11
    union all select date_trunc($12, start, 'UTC') as start, "service", "total"
    from audit_pending, unnest( starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
    where "start" >= $13 and "start" < $14 and coalesce(visible_company, company_key) = $15) as "cell"
  group by "start"
  union all select (extract(epoch from start) * 1000000)::bigint as start, (extract(epoch from start) * 1000000)::bigint + $16::bigint as end, sum(total)::bigint as total, bool_and(service = 4) as changes
  from (select "start", "service", "total"
    from "audit_total"
    where "level" = $17 and "name" = $18 and "span" = $19 and "start" >= $20 and "start" < $21
    union all select "start", "service", "total"
    from "audit_total"
    where "level" = $22 and "name" = $23 and "span" = $24 and "start" >= $25 and "start" < $26
    union all select date_trunc($27, start, 'UTC') as start, "service", "total"
    from audit_pending, unnest( starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
    where "start" >= $28 and "start" < $29 and coalesce(visible_company, company_key) = $30) as "cell"
  group by "start") as "bucket"
group by "start", "end"
having sum(total) > 0
order by "start" asc;

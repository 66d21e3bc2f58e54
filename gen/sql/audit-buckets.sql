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
    where "total" > $12 and "start" >= $13 and "start" < $14) as "cell"
  group by "start"
  union all select (extract(epoch from start) * 1000000)::bigint as start, (extract(epoch from start) * 1000000)::bigint + $15::bigint as end, sum(total)::bigint as total, bool_and(service = 4) as changes
  from (select "start", "service", "total"
    from "audit_total"
    where "level" = $16 and "name" = $17 and "span" = $18 and "start" >= $19 and "start" < $20
    union all select date_trunc($21, start, 'UTC') as start, "service", "total"
    from audit_pending, unnest( starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
    where "total" > $22 and "start" >= $23 and "start" < $24) as "cell"
  group by "start"
  union all select (extract(epoch from start) * 1000000)::bigint as start, (extract(epoch from start) * 1000000)::bigint + $25::bigint as end, sum(total)::bigint as total, bool_and(service = 4) as changes
  from (select "start", "service", "total"
    from "audit_total"
    where "level" = $26 and "name" = $27 and "span" = $28 and "start" >= $29 and "start" < $30
    union all select date_trunc($31, start, 'UTC') as start, "service", "total"
    from audit_pending, unnest( starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
    where "total" > $32 and "start" >= $33 and "start" < $34) as "cell"
  group by "start"
  union all select $35::bigint as start, $36::bigint as end, count(*) * 1 as total, bool_and(service = 4) as changes
  from "audit_action"
  where "time" >= $37 and "time" < $38
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
    where "total" > $8 and "start" >= $9 and "start" < $10) as "cell"
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
    where "total" > $8 and "username" = $9 and "start" >= $10 and "start" < $11) as "cell"
  group by "start"
  union all select (extract(epoch from date_trunc('day', time, 'UTC')) * 1000000)::bigint as start, (extract(epoch from date_trunc('day', time, 'UTC')) * 1000000)::bigint + $12::bigint as end, count(*) * -1 as total, bool_and(service = 4) as changes
  from "audit_action"
  where "time" >= $13 and "time" < $14 and "username" = $15 and outcome <> 1
  group by date_trunc('day', time, 'UTC')
  having count(*) > 0
  union all select $16::bigint as start, $17::bigint as end, count(*) * 1 as total, bool_and(service = 4) as changes
  from "audit_action"
  where "time" >= $18 and "time" < $19 and "username" = $20 and "outcome" = $21
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
    where "total" > $13 and "start" >= $14 and "start" < $15 and coalesce(visible_company, company_key) = $16) as "cell"
  group by "start"
  union all select (extract(epoch from start) * 1000000)::bigint as start, (extract(epoch from start) * 1000000)::bigint + $17::bigint as end, sum(total)::bigint as total, bool_and(service = 4) as changes
  from (select "start", "service", "total"
    from "audit_total"
    where "level" = $18 and "name" = $19 and "span" = $20 and "start" >= $21 and "start" < $22
    union all select "start", "service", "total"
    from "audit_total"
    where "level" = $23 and "name" = $24 and "span" = $25 and "start" >= $26 and "start" < $27
    union all select date_trunc($28, start, 'UTC') as start, "service", "total"
    from audit_pending, unnest( starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
    where "total" > $29 and "start" >= $30 and "start" < $31 and coalesce(visible_company, company_key) = $32) as "cell"
  group by "start") as "bucket"
group by "start", "end"
having sum(total) > 0
order by "start" asc;

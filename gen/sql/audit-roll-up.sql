-- The SQL of src/audit/roll-up.ts. Made by `npm run gen`.

-- roll-up.deleteTotals
delete from audit_total where ctid = any (array(select ctid from audit_total where start < $1 limit $2));

-- roll-up.movePending
with moved as (
  delete from audit_pending where id in (select id from audit_pending order by id limit $1) returning *
),
cell as (
  select start, user_id, username, company_key, service, method_group, operation, visible_company,
    sum(total) as total
  from moved, unnest(
    starts, user_ids, usernames, company_keys, services, method_groups, operations, totals, visible_companies
  ) as cell (start, user_id, username, company_key, service, method_group, operation, total, visible_company)
  where total > 0
  group by 1, 2, 3, 4, 5, 6, 7, 8
),
-- Aggregated by company first: companies are few, users many.
of_company as (
  select start, company_key, service, method_group, operation, sum(total) as total
  from cell group by 1, 2, 3, 4, 5
),
-- Actions that the partners of another company see: added under that company, subtracted under the user's.
shown as (
  select start, user_id, username, company_key, service, method_group, operation, seen.company, seen.total
  from cell cross join lateral (
    values (visible_company, cell.total), (company_key, -cell.total)
  ) as seen (company, total)
  where visible_company is not null and seen.company <> ''
),
counted as (
  select 0 as level, '' as name, 1 as span, start, 0 as user_id, '' as company_key, service, method_group,
    operation, total
  from of_company
  union all
  select 0, '', 24, date_trunc('day', start, 'UTC'), 0, '', service, method_group, operation, total
  from of_company
  union all
  select 1, company_key, 1, start, 0, '', service, method_group, operation, total from of_company
  union all
  select 1, company_key, 24, date_trunc('day', start, 'UTC'), 0, '', service, method_group, operation, total
  from of_company
  union all
  select 2, username, 24, date_trunc('day', start, 'UTC'), user_id, company_key, service, method_group,
    operation, total
  from cell
  union all
  select 3, company, 1, start, 0, company_key, service, method_group, operation, total from shown
  union all
  select 3, company, 24, date_trunc('day', start, 'UTC'), 0, company_key, service, method_group, operation, total
  from shown
  union all
  select 4, username || ' ' || company, 24, date_trunc('day', start, 'UTC'), user_id, company_key, service,
    method_group, operation, total
  from shown
),
added as (
  insert into audit_total as kept (
    level, name, span, start, user_id, company_key, service, method_group, operation, total
  )
  select level, name, span, start, user_id, company_key, service, method_group, operation, sum(total)
  from counted group by 1, 2, 3, 4, 5, 6, 7, 8, 9
  on conflict (level, name, span, start, user_id, company_key, service, method_group, operation)
    do update set total = kept.total + excluded.total
)
select count(*)::integer as moved from moved;

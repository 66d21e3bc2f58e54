-- Usage that is not in usage_day yet is kept with the counts of the batch that adds it. So no batch waits for another one that
-- raises the same rows. A cell that counts actions without usage has no day. A cell with usage that no action adds has a total
-- of zero.
alter table audit_pending
  add column usage_days date[],
  add column requests bigint[],
  add column points bigint[],
  add column unique_points bigint[];

-- The usage of pending counts is added when they are deleted, also when a server of the last release does so.
create function audit_pending_deleted() returns trigger language plpgsql as $$
begin
  insert into usage_day as kept (
    date, user_id, service, method_group, username, company_key, requests, points, unique_points
  )
  select cell.day, cell.user_id, cell.service, cell.method_group, min(cell.username), cell.company_key,
    sum(cell.requests), sum(cell.points), sum(cell.unique_points)
  from removed as batch, unnest(
    usage_days, user_ids, services, method_groups, usernames, company_keys, batch.requests, batch.points,
    batch.unique_points
  ) as cell (day, user_id, service, method_group, username, company_key, requests, points, unique_points)
  where usage_days is not null and cell.day is not null
  group by cell.user_id, cell.service, cell.method_group, cell.day, cell.company_key
  -- In key order: a server of the last release raises the same rows, and must not deadlock.
  order by cell.user_id, cell.service, cell.method_group, cell.day, cell.company_key
  on conflict (user_id, date, service, method_group, company_key) do update set
    requests = kept.requests + excluded.requests, points = kept.points + excluded.points,
    unique_points = kept.unique_points + excluded.unique_points;
  return null;
end $$;

create trigger audit_pending_deleted after delete on audit_pending
  referencing old table as removed for each statement execute function audit_pending_deleted();

-- All usage, as rows of usage_day and rows to add to them. It does not group them, so that a long report begins soon.
create view usage_part as
  select date, user_id, service, method_group, username, company_key, requests, points, unique_points from usage_day
  union all
  select cell.day, cell.user_id, cell.service, cell.method_group, cell.username, cell.company_key, cell.requests,
    cell.points, cell.unique_points
  from audit_pending as batch, unnest(
    usage_days, user_ids, services, method_groups, usernames, company_keys, batch.requests, batch.points,
    batch.unique_points
  ) as cell (day, user_id, service, method_group, username, company_key, requests, points, unique_points)
  where usage_days is not null and cell.day is not null;

-- All usage, one row for each user, name, day, service, method group and company.
create view usage_with_pending as
  select date, user_id, service, method_group, username, company_key, sum(requests)::bigint as requests,
    sum(points)::bigint as points, sum(unique_points)::bigint as unique_points
  from usage_part group by username, user_id, date, service, method_group, company_key;

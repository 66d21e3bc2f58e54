-- The company whose partners see an action, where it is another one than the user's. Empty: none, administrators alone
-- see it. Null: the user's company.
alter table audit_action add column visible_company text collate "C";
-- The network that a login came from.
alter table audit_action add column address text collate "C";
-- How often a security event has happened from its time on.
alter table audit_action add column times integer;
-- Few of many.
create index audit_action_visible on audit_action (visible_company, time) where visible_company is not null;

-- Changes that are recorded belong to the company of what they have changed, at the time of the change. What is not known
-- any more belongs to administrators alone.
-- compatible: servers of the last release do not read the new column.
with change as (
  select time, tracecode, operation, part, user_id, username, company_key, service, method_group, case
      when operation in ('create_company', 'update_company', 'patch_company', 'delete_company') then resource
      else coalesce(
        (
          select known.company_key from (
            select standing.company_key from user_standing as standing
            where standing.username = resource and standing.since <= time order by standing.since desc limit 1
          ) as known
        ),
        -- A user who is created has a standing a moment after the time of the call.
        (
          select standing.company_key from user_standing as standing
          where standing.username = resource and standing.since > time order by standing.since limit 1
        ),
        ''
      )
    end as visible_company
  from audit_action where service = 4
),
shown as (
  update audit_action as action set visible_company = change.visible_company
  from change
  where action.service = 4 and action.time = change.time and action.tracecode = change.tracecode
    and action.operation = change.operation and action.part = change.part
    and change.visible_company is distinct from change.company_key
  returning action.time, action.user_id, action.username, action.company_key, action.service, action.method_group,
    action.operation, change.visible_company
),
-- As the totals of new actions: what another company sees counts there, and not at the user's.
seen as (
  select date_trunc('hour', time, 'UTC') as start, user_id, username, company_key, service, method_group, operation,
    one.company, one.total
  from shown cross join lateral (values (visible_company, 1), (company_key, -1)) as one (company, total)
  where one.company <> ''
),
counted as (
  select 3 as level, company as name, 1 as span, start, 0 as user_id, company_key, service, method_group, operation, total
  from seen
  union all
  select 3, company, 24, date_trunc('day', start, 'UTC'), 0, company_key, service, method_group, operation, total
  from seen
  union all
  select 4, username || ' ' || company, 24, date_trunc('day', start, 'UTC'), user_id, company_key, service, method_group,
    operation, total
  from seen
)
insert into audit_total (level, name, span, start, user_id, company_key, service, method_group, operation, total)
  select level, name, span, start, user_id, company_key, service, method_group, operation, sum(total)
  from counted group by 1, 2, 3, 4, 5, 6, 7, 8, 9;

-- The company whose partners see an action, if it is not the user's company. Empty: only administrators see it. Null: the
-- user's company.
alter table audit_action add column visible_company text collate "C";
-- The network of a login.
alter table audit_action add column address text collate "C";
-- How often a security event happened since its time.
alter table audit_action add column times integer;
-- For the few actions that another company sees.
create index audit_action_visible on audit_action (visible_company, time) where visible_company is not null;

-- A recorded change belongs to the company of its resource at the time of the change. If that company is unknown, only
-- administrators see the change.
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
        -- The history of a new user begins a moment after the time of the call that created the user.
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
-- Totals count an action that another company sees for that company, and not for the user's. The same holds for new actions.
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

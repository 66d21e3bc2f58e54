-- What was granted and what became of it: the durable truth behind the counters.
create table lease (
  -- The user's own day of the acquire, to which its points belong for good.
  day date not null,
  user_id bigint not null,
  -- Numbers of Service.Name and Method.Group.
  service smallint not null,
  method_group smallint not null,
  operation_id uuid not null,
  -- Names of that time: the history stays readable when the user is gone.
  username text collate "C" not null,
  company_key text collate "C" not null,
  -- The offset at which the day was counted, hours from UTC.
  timezone smallint not null,
  points bigint not null,
  granted_at timestamptz not null,
  expire_at timestamptz not null,
  -- 0 granted, 1 released, 2 settled. Only ever raised, so that entries may be written twice and in any order.
  state smallint not null,
  ended_at timestamptz,
  settled_points bigint,
  duration_ms bigint,
  outcome smallint,
  tracecode uuid not null,
  -- Who holds the slot, as ListLeases shows it.
  holder text not null,
  -- Granted while the counters were out of reach.
  degraded boolean not null default false,
  primary key (user_id, service, method_group, day, operation_id)
) partition by range (day);

-- The leases that may be running, few of many.
create index lease_granted on lease (user_id, service, method_group, expire_at) where state = 0;

-- What statistics, the report and the counters are made of: settled leases, summed up as they are written.
create table usage_day (
  date date not null,
  user_id bigint not null,
  service smallint not null,
  method_group smallint not null,
  username text collate "C" not null,
  company_key text collate "C" not null,
  requests bigint not null,
  points bigint not null,
  unique_points bigint not null,
  primary key (user_id, date, service, method_group)
);

create index usage_day_date on usage_day (date, company_key);

-- The points that a user's day has seen, so that unique ones are counted exactly.
create table usage_point (
  date date not null,
  user_id bigint not null,
  service smallint not null,
  method_group smallint not null,
  point_key bigint not null,
  primary key (user_id, service, method_group, date, point_key)
) partition by range (date);

-- Which Redis the counters were last seen in. One that was started anew, or a replica that took over, may have lost what
-- it acknowledged: counters of an earlier generation are not trusted.
create table counter_generation (
  -- One row.
  id boolean primary key default true check (id),
  run_id text not null,
  generation bigint not null
);

-- Tells every server which users to read again. Many at once are told as all.
create function user_account_notify() returns trigger language plpgsql as $$
begin
  if (select count(*) from changed) > 100 then
    perform pg_notify('tollgate', 'users');
  else
    perform pg_notify('tollgate', 'user ' || id) from changed;
  end if;
  return null;
end $$;

create trigger user_account_changed_notify after update on user_account
  referencing old table as changed for each statement execute function user_account_notify();
create trigger user_account_removed_notify after delete on user_account
  referencing old table as changed for each statement execute function user_account_notify();

create function quota_notify() returns trigger language plpgsql as $$
begin
  if (select count(distinct user_id) from changed) > 100 then
    perform pg_notify('tollgate', 'users');
  else
    perform pg_notify('tollgate', 'user ' || user_id) from (select distinct user_id from changed) as one;
  end if;
  return null;
end $$;

create trigger quota_added_notify after insert on quota
  referencing new table as changed for each statement execute function quota_notify();
create trigger quota_changed_notify after update on quota
  referencing new table as changed for each statement execute function quota_notify();
create trigger quota_removed_notify after delete on quota
  referencing old table as changed for each statement execute function quota_notify();

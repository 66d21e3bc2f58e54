create extension if not exists pg_trgm;
create extension if not exists btree_gist;

create table company (
  key text collate "C" primary key,
  detail text,
  -- What a filter searches. U+0001 keeps a match from running over two fields. The key's collation "C" would win
  -- otherwise, whose lower() knows ASCII alone.
  search text not null generated always as (
    lower((key || chr(1) || coalesce(detail, '')) collate "default")
  ) stored,
  created_at timestamptz not null default now()
);

create index company_search on company using gin (search gin_trgm_ops);

create table user_account (
  -- Names can be used again after a user is deleted; ids are not.
  id bigint generated always as identity primary key,
  username text collate "C" not null constraint user_account_username_key unique,
  -- argon2id; null: cannot log in.
  password_hash text,
  -- Raised when the password changes: tokens of an earlier version are not valid.
  token_version integer not null default 0,
  name text,
  email text,
  phone text,
  company_key text collate "C" not null constraint user_account_company_key_fkey references company (key),
  enabled boolean not null,
  roles text[] not null,
  -- Hours from UTC.
  timezone smallint not null check (timezone between -12 and 12),
  created_at timestamptz not null default now(),
  search text not null generated always as (
    lower(
      (
        username || chr(1) || coalesce(name, '') || chr(1) || coalesce(email, '') || chr(1) || coalesce(phone, '')
        || chr(1) || company_key
      ) collate "default"
    )
  ) stored
);

create index user_account_company on user_account (company_key, username);
create index user_account_search on user_account using gin (search gin_trgm_ops);
-- Few of many: found without reading them all.
create index user_account_admins on user_account (username) where 'ADMIN' = any (roles);
create index user_account_blocked on user_account (username) where not enabled;

-- The totals of a list, kept by the triggers below, so that no list counts a million users.
create table user_total (
  company_key text collate "C" primary key,
  total integer not null,
  active integer not null,
  admins integer not null,
  active_admins integer not null
);

create table company_total (
  -- One row.
  id boolean primary key default true check (id),
  total integer not null
);

insert into company_total (total) values (0);

create function user_account_count() returns trigger language plpgsql as $$
begin
  -- In key order: two writers must not deadlock.
  if tg_op = 'INSERT' then
    insert into user_total as kept (company_key, total, active, admins, active_admins)
      select company_key, count(*), count(*) filter (where enabled), count(*) filter (where 'ADMIN' = any (roles)),
        count(*) filter (where enabled and 'ADMIN' = any (roles))
      from added group by company_key order by company_key
    on conflict (company_key) do update set
      total = kept.total + excluded.total, active = kept.active + excluded.active,
      admins = kept.admins + excluded.admins, active_admins = kept.active_admins + excluded.active_admins;
  elsif tg_op = 'DELETE' then
    insert into user_total as kept (company_key, total, active, admins, active_admins)
      select company_key, -count(*), -count(*) filter (where enabled), -count(*) filter (where 'ADMIN' = any (roles)),
        -count(*) filter (where enabled and 'ADMIN' = any (roles))
      from removed group by company_key order by company_key
    on conflict (company_key) do update set
      total = kept.total + excluded.total, active = kept.active + excluded.active,
      admins = kept.admins + excluded.admins, active_admins = kept.active_admins + excluded.active_admins;
  else
    insert into user_total as kept (company_key, total, active, admins, active_admins)
      select * from (
        select company_key, sum(one) as total, coalesce(sum(one) filter (where enabled), 0) as active,
          coalesce(sum(one) filter (where 'ADMIN' = any (roles)), 0) as admins,
          coalesce(sum(one) filter (where enabled and 'ADMIN' = any (roles)), 0) as active_admins
        from (
          select company_key, enabled, roles, 1 as one from added
          union all
          select company_key, enabled, roles, -1 from removed
        ) as change
        group by company_key
      ) as change
      -- An update that changes no count takes no lock on the counters.
      where (total, active, admins, active_admins) <> (0, 0, 0, 0)
      order by company_key
    on conflict (company_key) do update set
      total = kept.total + excluded.total, active = kept.active + excluded.active,
      admins = kept.admins + excluded.admins, active_admins = kept.active_admins + excluded.active_admins;
  end if;
  return null;
end $$;

create trigger user_account_added after insert on user_account
  referencing new table as added for each statement execute function user_account_count();
create trigger user_account_removed after delete on user_account
  referencing old table as removed for each statement execute function user_account_count();
create trigger user_account_changed after update on user_account
  referencing new table as added old table as removed for each statement execute function user_account_count();

create function company_count() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    update company_total set total = total + (select count(*) from added);
  else
    update company_total set total = total - (select count(*) from removed);
    delete from user_total using removed where user_total.company_key = removed.key;
  end if;
  return null;
end $$;

create trigger company_added after insert on company
  referencing new table as added for each statement execute function company_count();
create trigger company_removed after delete on company
  referencing old table as removed for each statement execute function company_count();

create table quota (
  id bigint generated always as identity primary key,
  user_id bigint not null references user_account (id) on delete cascade,
  service text not null,
  method_group text not null,
  -- Null: the base quota, of every day that no period has.
  period daterange check (not isempty(period) and not lower_inf(period) and not upper_inf(period)),
  -- Null does not limit, 0 allows nothing.
  points_per_request bigint check (points_per_request >= 0),
  points_per_day bigint check (points_per_day >= 0),
  points_per_date_window bigint check (points_per_date_window >= 0),
  max_concurrent_execution bigint check (max_concurrent_execution >= 0),
  constraint quota_period_overlap
    exclude using gist (user_id with =, service with =, method_group with =, period with &&)
);

create unique index quota_base on quota (user_id, service, method_group) where period is null;

-- The failed logins of names and addresses, as rate-limiter-flexible keeps them.
create table login_attempt (
  key varchar(255) primary key,
  points integer not null default 0,
  expire bigint
);

-- Counters of quotas are kept by user. Servers of release 1.0 keep them by company under other names, so both together
-- would grant more than the limits. The first server of a later release that decides inserts the row of counter_store. From
-- then on servers of release 1.0 answer UNAVAILABLE to decisions until they are replaced, and callers retry on another one.
create table counter_store (
  -- One row.
  id boolean primary key default true check (id),
  run_id text not null,
  generation bigint not null,
  -- Identifies this database in the keys of the counters: a Redis may hold counters of another database.
  identity uuid not null default gen_random_uuid()
);

create trigger counter_store_changed_notify after update on counter_store
  for each row when (old.generation <> new.generation) execute function counter_generation_notify();

-- The notification makes servers of release 1.0 write counter_generation before their next decision. They answer a barrier
-- after it, so counters that are rebuilt hold everything that they have granted.
create trigger counter_store_added_notify after insert on counter_store
  for each row execute function counter_generation_notify();

create function counter_generation_refuse() returns trigger language plpgsql as $$
begin
  if exists (select from counter_store) then
    -- A code that release 1.0 answers with UNAVAILABLE.
    raise exception 'servers of a later release keep the counters' using errcode = 'lock_not_available';
  end if;
  return new;
end $$;

create trigger counter_generation_refuse before insert or update on counter_generation
  for each row execute function counter_generation_refuse();

-- The points that the leases of a day have charged, added up when they are settled. Counters are rebuilt from these sums,
-- so the number of leases does not matter. Points of recorded actions are not included.
create table charged_day (
  user_id bigint not null,
  service smallint not null,
  method_group smallint not null,
  day date not null,
  -- The offset at which the day is counted, in hours from UTC.
  timezone smallint not null,
  points bigint not null,
  primary key (user_id, service, method_group, day)
) with (fillfactor = 50);

create index charged_day_day on charged_day (day);

-- For the leases of a user that ended last.
create index lease_ended on lease (user_id, service, method_group, ended_at) where state > 0;

-- Servers of the last release write leases without these sums. A server that adds them up itself sets a variable in its
-- transaction.
create function charged_day_inserted() returns trigger language plpgsql as $$
begin
  if current_setting('tollgate.adds_charged_days', true) = 'on' then return null; end if;
  insert into charged_day as kept (user_id, service, method_group, day, timezone, points)
    select user_id, service, method_group, day, min(timezone), sum(settled_points)
    from added where state = 2 group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (user_id, service, method_group, day) do update set
      points = kept.points + excluded.points, timezone = least(kept.timezone, excluded.timezone);
  return null;
end $$;

create function charged_day_updated() returns trigger language plpgsql as $$
begin
  if current_setting('tollgate.adds_charged_days', true) = 'on' then return null; end if;
  insert into charged_day as kept (user_id, service, method_group, day, timezone, points)
    select user_id, service, method_group, day, min(added.timezone), sum(added.settled_points)
    from added join removed using (user_id, service, method_group, day, operation_id)
    where added.state = 2 and removed.state < 2 group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (user_id, service, method_group, day) do update set
      points = kept.points + excluded.points, timezone = least(kept.timezone, excluded.timezone);
  return null;
end $$;

-- Locks the table: no server writes leases until this is committed.
create trigger lease_inserted_add_day after insert on lease
  referencing new table as added for each statement execute function charged_day_inserted();
create trigger lease_updated_add_day after update on lease
  referencing new table as added old table as removed for each statement execute function charged_day_updated();

insert into charged_day (user_id, service, method_group, day, timezone, points)
  select user_id, service, method_group, day, min(timezone), sum(settled_points)
  from lease where state = 2 group by 1, 2, 3, 4;

-- Days with a lease that ran or ended more than three days after the day began. They are few. A rebuild of counters reads
-- the partitions of the last days and of these. To plan a query over all partitions takes longer than the rest of a rebuild.
create table late_day (
  user_id bigint not null,
  service smallint not null,
  method_group smallint not null,
  day date not null,
  -- When the last such lease of the day expires or ended.
  until timestamptz not null,
  primary key (user_id, service, method_group, day)
) with (fillfactor = 50);

-- Servers of the last release write leases without these sums and days. A server that writes them itself sets a variable in
-- its transaction.
create or replace function charged_day_inserted() returns trigger language plpgsql as $$
begin
  if current_setting('tollgate.adds_charged_days', true) = 'on' then return null; end if;
  insert into charged_day as kept (user_id, service, method_group, day, timezone, points)
    select user_id, service, method_group, day, min(timezone), sum(settled_points)
    from added where state = 2 group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (user_id, service, method_group, day) do update set
      points = kept.points + excluded.points, timezone = least(kept.timezone, excluded.timezone);
  insert into late_day as kept (user_id, service, method_group, day, until)
    select user_id, service, method_group, day, max(greatest(expire_at, ended_at)) from added
    where greatest(expire_at, ended_at) > (day + 3)::timestamp at time zone 'UTC'
    group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (user_id, service, method_group, day) do update set until = greatest(kept.until, excluded.until);
  return null;
end $$;

create or replace function charged_day_updated() returns trigger language plpgsql as $$
begin
  if current_setting('tollgate.adds_charged_days', true) = 'on' then return null; end if;
  insert into charged_day as kept (user_id, service, method_group, day, timezone, points)
    select user_id, service, method_group, day, min(added.timezone), sum(added.settled_points)
    from added join removed using (user_id, service, method_group, day, operation_id)
    where added.state = 2 and removed.state < 2 group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (user_id, service, method_group, day) do update set
      points = kept.points + excluded.points, timezone = least(kept.timezone, excluded.timezone);
  insert into late_day as kept (user_id, service, method_group, day, until)
    select user_id, service, method_group, day, max(greatest(expire_at, ended_at)) from added
    where greatest(expire_at, ended_at) > (day + 3)::timestamp at time zone 'UTC'
    group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (user_id, service, method_group, day) do update set until = greatest(kept.until, excluded.until);
  return null;
end $$;

-- No server writes leases until this is committed. Operations are remembered for a week at most.
lock table lease in share row exclusive mode;

insert into late_day (user_id, service, method_group, day, until)
  select user_id, service, method_group, day, max(greatest(expire_at, ended_at)) from lease
  where greatest(expire_at, ended_at) > (day + 3)::timestamp at time zone 'UTC'
    and greatest(expire_at, ended_at) > now() - interval '8 days'
  group by 1, 2, 3, 4;

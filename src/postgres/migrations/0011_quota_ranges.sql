-- The ranges of the contract: the points of a request and of a day are always limited, at most by the maximum. A limit
-- beyond its maximum takes the maximum.

-- No server writes limits until this is committed. A limit that one commits after the update would stay as it is.
lock table quota in share row exclusive mode;

-- compatible: a limit at its maximum refuses nothing that a server of the last release grants without a limit.
update quota set
  points_per_request = least(coalesce(points_per_request, 1000000), 1000000),
  points_per_day = least(coalesce(points_per_day, 100000000), 100000000),
  points_per_date_window = case when points_per_date_window > 100000000 then 100000000 else points_per_date_window end,
  max_concurrent_execution = case when max_concurrent_execution > 1000 then 1000 else max_concurrent_execution end
where points_per_request is null or points_per_request > 1000000
  or points_per_day is null or points_per_day > 100000000
  or points_per_date_window > 100000000
  or max_concurrent_execution > 1000;

-- Servers of release 1.0 write absent limits, and limits beyond the maximum.
create function quota_limit_ranges() returns trigger language plpgsql as $$
begin
  new.points_per_request := least(coalesce(new.points_per_request, 1000000), 1000000);
  new.points_per_day := least(coalesce(new.points_per_day, 100000000), 100000000);
  if new.points_per_date_window > 100000000 then new.points_per_date_window := 100000000; end if;
  if new.max_concurrent_execution > 1000 then new.max_concurrent_execution := 1000; end if;
  return new;
end $$;

create trigger quota_limit_ranges before insert or update on quota
  for each row execute function quota_limit_ranges();

-- compatible: the trigger fills what a server of the last release leaves out.
alter table quota alter column points_per_request set not null;
-- compatible: the trigger fills what a server of the last release leaves out.
alter table quota alter column points_per_day set not null;

-- The thresholds of alerts of a user or a company that the API has set.
create table alert_threshold (
  -- One of the two is set.
  user_id bigint unique references user_account (id) on delete cascade,
  company_key text collate "C" unique references company (key) on delete cascade,
  -- In the form of ALERT_THRESHOLDS: 80%, or a number of points. Empty: no alerts.
  thresholds text[] not null,
  check (num_nonnulls(user_id, company_key) = 1)
);

-- Servers cache thresholds with their users. The notification makes them read these users again.
create function alert_threshold_notify() returns trigger language plpgsql as $$
begin
  if (
    select count(*) from changed join user_account on user_account.company_key = changed.company_key
  ) > 100 then
    perform pg_notify('tollgate', 'users');
  else
    perform pg_notify('tollgate', 'user ' || user_id) from changed where user_id is not null;
    perform pg_notify('tollgate', 'user ' || user_account.id)
      from changed join user_account on user_account.company_key = changed.company_key;
  end if;
  return null;
end $$;

create trigger alert_threshold_added_notify after insert on alert_threshold
  referencing new table as changed for each statement execute function alert_threshold_notify();
create trigger alert_threshold_changed_notify after update on alert_threshold
  referencing new table as changed for each statement execute function alert_threshold_notify();
create trigger alert_threshold_removed_notify after delete on alert_threshold
  referencing old table as changed for each statement execute function alert_threshold_notify();

-- For the metric of abandoned alerts, which are few.
create index outbox_abandoned on outbox (created_at) where state = 2;

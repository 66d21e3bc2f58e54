-- Alerts to people. Each is written in the transaction of the settlement that reaches a threshold, and sent afterwards.
create table outbox (
  id uuid primary key,
  user_id bigint not null,
  -- Numbers of Service.Name and Method.Group.
  service smallint not null,
  method_group smallint not null,
  -- POINTS_PER_DAY or POINTS_PER_DATE_WINDOW.
  limit_name text not null,
  -- The days of the limit, `window_to` excluded.
  window_from date not null,
  window_to date not null,
  -- In the form of ALERT_THRESHOLDS: 80%, or a number of points.
  threshold text not null,
  -- The JSON text that is sent. Every attempt sends the same bytes.
  body text not null,
  -- 0 waiting, 1 sent, 2 abandoned.
  state smallint not null default 0,
  attempts integer not null default 0,
  -- The time of the next attempt while the alert waits.
  next_at timestamptz not null default now(),
  -- Why the last attempt failed.
  error text,
  created_at timestamptz not null default now(),
  -- Each window has each alert once.
  unique (user_id, service, method_group, limit_name, window_from, window_to, threshold)
);

-- For the alerts that are not sent, which are few.
create index outbox_waiting on outbox (next_at) where state = 0;
create index outbox_created on outbox (created_at);

-- What was done, by whom and when.
create table audit_action (
  time timestamptz not null,
  tracecode uuid not null,
  operation text collate "C" not null,
  -- Tells apart what one tracecode does many times at once: the operation_id of a lease that was settled, a number of
  -- its own for an administrative change. Zeros where time, tracecode and operation say it all.
  part uuid not null,
  user_id bigint not null,
  -- Names of that time: the history stays readable when the user is gone.
  username text collate "C" not null,
  company_key text collate "C" not null,
  server text collate "C" not null,
  -- Numbers of Service.Name and Method.Group.
  service smallint not null,
  method_group smallint not null,
  points bigint,
  duration_ms bigint,
  -- Number of Outcome.Name.
  outcome smallint not null,
  -- What an administrative change has changed.
  resource text,
  -- The user's own day to which the action's usage was added; null where it adds none: a lease has its own.
  usage_day date,
  -- An action that is told twice is one.
  primary key (time, tracecode, operation, part)
) partition by range (time);

create index audit_action_user on audit_action (username, time);
create index audit_action_company on audit_action (company_key, time);
-- The administrative changes, few of many.
create index audit_action_change on audit_action (time) where service = 4;

-- How many actions there are, so that no list counts them: by hour and by day of UTC; of all, of a company, and by day
-- of a user.
create table audit_total (
  -- 0 all, 1 company, 2 user.
  level smallint not null,
  -- Empty, company_key or username.
  name text collate "C" not null,
  -- Hours: 1 or 24.
  span smallint not null,
  start timestamptz not null,
  -- Of a user; else 0 and empty.
  user_id bigint not null,
  company_key text collate "C" not null,
  service smallint not null,
  method_group smallint not null,
  operation text collate "C" not null,
  total bigint not null,
  primary key (level, name, span, start, user_id, company_key, service, method_group, operation)
);

create index audit_total_start on audit_total (start);

-- Counts that are not in audit_total yet: one row for each batch of actions, which no other writer waits for. The n-th
-- items of the lists belong together.
create table audit_pending (
  id bigint generated always as identity primary key,
  starts timestamptz[] not null,
  user_ids bigint[] not null,
  usernames text[] not null,
  company_keys text[] not null,
  services smallint[] not null,
  method_groups smallint[] not null,
  operations text[] not null,
  totals bigint[] not null
);

-- The keys of actions that the audit sink has not accepted yet, written in the transaction that records the actions. A row is
-- deleted after it is sent. So rows of a transaction that commits late are sent too: there is no cursor that has passed
-- them. Empty without a sink.
create table audit_outbox (
  id bigint generated always as identity primary key,
  -- The number of actions.
  actions integer not null,
  -- The n-th items of the lists are the primary key of one action. Microseconds since the epoch, ascending.
  times bigint[] not null,
  tracecodes uuid[] not null,
  operations text[] not null,
  parts uuid[] not null,
  created_at timestamptz not null default now()
);

-- The progress of the sending. It has no row until the first server with a sink has started, and then one row.
create table audit_sink (
  single boolean primary key default true check (single),
  -- Rises with each attempt. An attempt that took too long cannot confirm the batch of a later one.
  claim bigint not null default 0,
  -- The time of the next attempt. While a server sends: the time when another one may take over.
  next_at timestamptz not null default now(),
  -- Failed attempts since the last accepted batch, and the reason of the last one.
  failures integer not null default 0,
  failing_since timestamptz,
  error text,
  -- The number of accepted batches.
  sequence bigint not null default 0,
  -- Unsent actions that retention has dropped and that no batch has reported.
  dropped bigint not null default 0
);

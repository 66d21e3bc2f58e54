-- The keys of actions that the audit sink has not accepted yet, written in the transaction that records the actions. Each
-- row is deleted once it is sent: a transaction that commits late adds a row, which no cursor has passed. Empty without a
-- sink.
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

-- How far the sending is: no row before the first server with a sink has started, then one.
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
  -- Actions that retention has dropped unsent, until a batch has reported their number.
  dropped bigint not null default 0
);

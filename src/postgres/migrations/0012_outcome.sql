-- For lists and totals of actions without success (1), which are few.
create index audit_action_outcome on audit_action (outcome, time) where outcome <> 1;

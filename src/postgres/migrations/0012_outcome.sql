-- Actions that are no success (1), few of many: a list of them, and their totals, read nothing else.
create index audit_action_outcome on audit_action (outcome, time) where outcome <> 1;

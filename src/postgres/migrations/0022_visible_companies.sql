-- The visible_company of the counted actions: see audit_action. A migration of its own, so that its lock is short: servers
-- that run read and write this table together with audit_action.
alter table audit_pending add column visible_companies text[];

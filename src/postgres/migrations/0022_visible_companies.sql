-- The visible_company of the counted actions: see audit_action. This is a separate migration, so that its lock is short:
-- running servers use this table together with audit_action.
alter table audit_pending add column visible_companies text[];

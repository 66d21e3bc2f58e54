-- The roll-up raises the same totals many times. With free room on the page, a new version stays there and needs no entry in
-- an index.
alter table audit_total set (fillfactor = 50);

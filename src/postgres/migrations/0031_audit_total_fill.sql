-- A day's totals are raised again and again: with room beside them their new versions stay on the page, and no index
-- hears of it.
alter table audit_total set (fillfactor = 50);

-- A day's rows are raised again and again: with room beside them their new versions stay on the page, and no index
-- hears of it.
alter table usage_day set (fillfactor = 50);

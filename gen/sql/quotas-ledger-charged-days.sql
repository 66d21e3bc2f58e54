-- The SQL of src/quotas/ledger/charged-days.ts. Made by `npm run gen`.

-- charged-days.deleteChargedDays
delete from charged_day where ctid = any (array(select ctid from charged_day where day < $1 limit $2));

-- charged-days.deleteLateDays
delete from late_day where ctid = any (array(select ctid from late_day where day < $1 limit $2));

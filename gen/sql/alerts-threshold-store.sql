-- The SQL of src/alerts/threshold-store.ts. Made by `npm run gen`.

-- alert-thresholds.find
select user_id is not null as "isOfUser", thresholds from alert_threshold
where user_id = $1::bigint or company_key = $2;

-- alert-thresholds.putOfUser
insert into alert_threshold (user_id, thresholds) values ($1, $2::text[])
on conflict (user_id) do update set thresholds = excluded.thresholds;

-- alert-thresholds.putOfCompany
insert into alert_threshold (company_key, thresholds) values ($1, $2::text[])
on conflict (company_key) do update set thresholds = excluded.thresholds;

-- alert-thresholds.deleteOfUser
delete from alert_threshold where user_id = $1;

-- alert-thresholds.deleteOfCompany
delete from alert_threshold where company_key = $1;

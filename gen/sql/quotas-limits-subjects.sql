-- The SQL of src/quotas/limits/subjects.ts. Made by `npm run gen`.

-- subjects.findSubject (keeps its plan)
select id, username, company_key, enabled, timezone, (
  select json_agg(json_build_object(
    'service', service, 'method_group', method_group,
    'from', lower(period) - date '1970-01-01', 'to', upper(period) - date '1970-01-01',
    'points_per_request', points_per_request, 'points_per_day', points_per_day,
    'points_per_date_window', points_per_date_window, 'max_concurrent_execution', max_concurrent_execution))
  from quota
  where user_id = user_account.id
    and (period is null or period && daterange($2::date - $3::integer, $2::date + $3::integer + 1))
) as quotas, coalesce(
  (select thresholds from alert_threshold where user_id = user_account.id),
  (select thresholds from alert_threshold where company_key = user_account.company_key)
) as thresholds
from user_account where username = $1;

-- subjects.findSubjects (keeps its plan)
select id, username, company_key, enabled, timezone, (
  select json_agg(json_build_object(
    'service', service, 'method_group', method_group,
    'from', lower(period) - date '1970-01-01', 'to', upper(period) - date '1970-01-01',
    'points_per_request', points_per_request, 'points_per_day', points_per_day,
    'points_per_date_window', points_per_date_window, 'max_concurrent_execution', max_concurrent_execution))
  from quota
  where user_id = user_account.id
    and (period is null or period && daterange($2::date - $3::integer, $2::date + $3::integer + 1))
) as quotas, coalesce(
  (select thresholds from alert_threshold where user_id = user_account.id),
  (select thresholds from alert_threshold where company_key = user_account.company_key)
) as thresholds
from user_account where username = any($1::text[]);

-- subjects.findName
select username from user_account where id = $1;

-- The SQL of src/audit/user-history.ts. Made by `npm run gen`.

-- user-history.readHistory (keeps its plan)
select username, (extract(epoch from since) * 1000000)::bigint as since,
  case when company_key is not null then json_build_object(
    'userId', user_id, 'username', username, 'companyKey', company_key, 'timezone', timezone
  ) end as version
from user_standing where username = any($1::text[]) order by since;

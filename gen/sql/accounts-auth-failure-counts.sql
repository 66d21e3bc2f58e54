-- The SQL of src/accounts/auth/failure-counts.ts. Made by `npm run gen`.

-- failure-counts.addFailure (keeps its plan)
with ended as (
  delete from login_attempt where key in (
    select key from login_attempt where expire <= $2 and key <> all ($1)
    limit 10 for update skip locked
  )
)
insert into login_attempt as kept (key, points, expire)
-- In key order: two writers must not deadlock.
select key, 1, $3 from unnest($1::text[]) as key order by key
on conflict (key) do update set
  points = case when kept.expire <= $2 then 1 else kept.points + 1 end,
  expire = case when kept.expire <= $2 then excluded.expire else kept.expire end
returning key, points, expire;

-- failure-counts.readFailures (keeps its plan)
select key, points, expire from login_attempt where key = any ($1) and expire > $2;

-- failure-counts.deleteFailures
delete from login_attempt where key = $1;

-- Users who were deleted before standings were kept, and companies that users were in before: what they have left is
-- what is known of them. A company counts from its first day on, or from before what is known of a user already. What is
-- left of a day may have been a day long: no day begins earlier than 12 hours before UTC's.
with seen as (
  select user_id, username, company_key, min(start) as start
  from (
    select user_id, username, company_key, date::timestamp at time zone 'UTC' - interval '12 hours' as start
      from usage_day
    union all
    select user_id, name, company_key, start from audit_total where level = 2
    union all
    select user_id, username, company_key, day::timestamp at time zone 'UTC' from data_file
  ) as history
  group by user_id, username, company_key
),
missing as (
  select *, row_number() over (partition by user_id order by start desc) as place
  from seen
  where not exists (
    select from user_standing as known where known.user_id = seen.user_id and known.company_key = seen.company_key
  )
),
first_known as (
  select user_id, min(since) as since from user_standing group by user_id
),
namesake as (
  select username, min(since) as since from user_standing group by username
)
insert into user_standing (user_id, since, username, company_key, timezone)
  -- The place keeps apart what is of one day. Whoever had the name and is known has had it later.
  select user_id, coalesce(first_known.since, least(start, namesake.since)) - place * interval '1 microsecond', username,
    company_key, 0
  from missing left join first_known using (user_id) left join namesake using (username);

-- They were deleted before the next one had their name, and before now.
with latest as (
  select distinct on (user_id) user_id, since, username, company_key from user_standing order by user_id, since desc
)
insert into user_standing (user_id, since, username)
  select user_id, coalesce(
      (
        select min(later.since) - interval '1 microsecond' from user_standing as later
        where later.username = latest.username and later.user_id <> latest.user_id
          and (later.since, later.user_id) > (latest.since, latest.user_id)
      ),
      now()
    ), username
  from latest
  where company_key is not null and not exists (select from user_account where id = latest.user_id)
on conflict do nothing;

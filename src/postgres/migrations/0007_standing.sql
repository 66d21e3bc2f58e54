-- What a user was, and from when on: what is told late counts for whoever had the name at its time, in the company and
-- at the offset of that time.
create table user_standing (
  user_id bigint not null,
  since timestamptz not null,
  username text collate "C" not null,
  -- Null, and the offset too: the user is deleted from then on.
  company_key text collate "C",
  timezone smallint,
  primary key (user_id, since)
);

create index user_standing_username on user_standing (username, since);
-- A company that is deleted leaves its history: its key is not given away again.
create index user_standing_company on user_standing (company_key);

insert into user_standing (user_id, since, username, company_key, timezone)
  select id, created_at, username, company_key, timezone from user_account;

create function user_account_stand() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    insert into user_standing (user_id, since, username)
      select id, clock_timestamp(), username from removed;
  elsif tg_op = 'INSERT' then
    insert into user_standing (user_id, since, username, company_key, timezone)
      select id, clock_timestamp(), username, company_key, timezone from added;
  else
    insert into user_standing (user_id, since, username, company_key, timezone)
      select added.id, clock_timestamp(), added.username, added.company_key, added.timezone
      from added join removed using (id)
      where (added.username, added.company_key, added.timezone)
        is distinct from (removed.username, removed.company_key, removed.timezone);
  end if;
  return null;
end $$;

create trigger user_account_added_stand after insert on user_account
  referencing new table as added for each statement execute function user_account_stand();
create trigger user_account_removed_stand after delete on user_account
  referencing old table as removed for each statement execute function user_account_stand();
create trigger user_account_changed_stand after update on user_account
  referencing new table as added old table as removed for each statement execute function user_account_stand();

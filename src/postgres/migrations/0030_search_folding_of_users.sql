-- Changes user_account.search as company.search was changed. It is a separate migration: running servers lock the two tables
-- in the other order.
-- compatible: the column keeps its name, and servers of the last release still find texts in ASCII.
alter table user_account drop column search;
alter table user_account add column search text not null generated always as (
  search_fold(
    username || chr(1) || coalesce(name, '') || chr(1) || coalesce(email, '') || chr(1) || coalesce(phone, '')
    || chr(1) || company_key
  )
) stored;
create index user_account_search on user_account using gin (search gin_trgm_ops);

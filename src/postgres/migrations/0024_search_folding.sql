-- Makes texts that look the same equal in a search: in upper or lower case, composed or decomposed (Unicode NFC), and with
-- either form of the small sigma.
create function search_fold(value text) returns text language sql immutable strict parallel safe
  return normalize(replace(lower(normalize(value, NFC) collate "default"), U&'\03C2', U&'\03C3'), NFC);

-- compatible: the column keeps its name, and servers of the last release still find texts in ASCII.
alter table company drop column search;
alter table company add column search text not null generated always as (
  search_fold(key || chr(1) || coalesce(detail, ''))
) stored;
create index company_search on company using gin (search gin_trgm_ops);

-- Texts that read alike are equal in a search: whatever their case, composed or decomposed (Unicode NFC), and with the
-- sigma of the end of a word or of its middle.
create function search_fold(value text) returns text language sql immutable strict parallel safe
  return normalize(replace(lower(normalize(value, NFC) collate "default"), U&'\03C2', U&'\03C3'), NFC);

-- compatible: the column keeps its name, and servers of the last release go on finding what is in plain letters.
alter table company drop column search;
alter table company add column search text not null generated always as (
  search_fold(key || chr(1) || coalesce(detail, ''))
) stored;
create index company_search on company using gin (search gin_trgm_ops);

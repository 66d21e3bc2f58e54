-- The SQL of src/data/store.ts. Made by `npm run gen`.

-- data.findTraced
select distinct tracecode, user_id from data_file where tracecode = any($1::uuid[]);

-- data.nextFileId
select nextval(pg_get_serial_sequence('data_file', 'id')) as id;

-- data.readPiece
select substring(content from ($3 - start)::int + 1 for $4) as content from data_chunk
where file_id = $1 and day = $2 and start <= $3 order by start desc limit 1;

-- data.deleteFiles
delete from data_file where ctid = any (array(select ctid from data_file where day < $1 limit $2));

-- findDataFile: everything
select *
from "data_file"
where "tracecode" = $1 and "flow" = $2 and "stage" = $3
limit $4;

-- findDataFile: a company
select *
from "data_file"
where "tracecode" = $1 and "flow" = $2 and "stage" = $3 and "company_key" = $4
limit $5;

-- findDataFile: self
select *
from "data_file"
where "tracecode" = $1 and "flow" = $2 and "stage" = $3 and "user_id" = $4
limit $5;

-- listFiles: everything
select *
from "data_file"
where "tracecode" = $1
order by "flow" asc, "stage" asc;

-- findDataOwner
select "user_id", "username", "company_key"
from "data_file"
where "tracecode" = $1 and "username" = $2
order by "id" asc
limit $3;

-- insertFile
insert into "data_file" ("bytes", "company_key", "content_type", "day", "filename", "flow", "id", "sha256", "stage", "tracecode", "user_id", "username")
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- insertChunk
insert into "data_chunk" ("content", "day", "file_id", "start")
values ($1, $2, $3, $4);

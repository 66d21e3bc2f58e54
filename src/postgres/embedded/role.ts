import pg from "pg";

/** A role of PostgreSQL and its password; neither needs escaping in an address or a statement. */
export interface RoleLogin {
  readonly name: string;
  readonly password: string;
}

/** The role that the service connects as. It owns the database and what is in it, and is no superuser. */
export const serviceRole = "tollgate_service";

/**
 * Makes the role where it is missing, sets its password, and gives it the database and everything in it that the
 * superuser owns: data folders of earlier releases belong to the superuser. What belongs to an extension stays.
 */
export async function prepareRole(superuserUrl: string, { name, password }: RoleLogin): Promise<void> {
  const client = new pg.Client({ connectionString: superuserUrl });
  await client.connect();
  try {
    await client.query(`
      do $$
      begin
        if not exists (select from pg_roles where rolname = '${name}') then
          create role ${name} login;
        end if;
      end $$`);
    await client.query(`alter role ${name} nosuperuser nocreatedb nocreaterole noreplication password '${password}'`);
    await client.query(handOver(name));
  } finally {
    await client.end();
  }
}

const handOver = (role: string): string => `
  do $$
  declare
    statement text;
  begin
    execute format('alter database %I owner to ${role}', current_database());
    for statement in
      -- Indexes and sequences of columns go with their tables.
      select format('alter %s %s owner to ${role}', case relkind when 'S' then 'sequence' else 'table' end, oid::regclass)
      from pg_class
      where relnamespace = 'public'::regnamespace and relowner <> '${role}'::regrole
        and (relkind in ('r', 'p', 'v', 'm') or relkind = 'S' and not exists (
          select from pg_depend
          where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype in ('a', 'i')
        ))
        and not exists (
          select from pg_depend where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e'
        )
      union all
      select format('alter routine %s owner to ${role}', oid::regprocedure)
      from pg_proc
      where pronamespace = 'public'::regnamespace and proowner <> '${role}'::regrole
        and not exists (
          select from pg_depend where classid = 'pg_proc'::regclass and objid = pg_proc.oid and deptype = 'e'
        )
    loop
      execute statement;
    end loop;
  end $$`;

import pg from "pg";

/** A role of PostgreSQL and its password. Both are safe in a URL or a statement without escaping. */
export interface RoleLogin {
  readonly name: string;
  readonly password: string;
}

/** The role of the service. It owns the database and its objects, and is not a superuser. */
export const serviceRole = "tollgate_service";

/**
 * Creates the role when it is missing, sets its password, and makes it the owner of the database and its objects. In data
 * folders of earlier releases the superuser owns them. Objects of extensions keep their owner.
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
    await client.query(changeOwner(name));
  } finally {
    await client.end();
  }
}

const changeOwner = (role: string): string => `
  do $$
  declare
    statement text;
  begin
    execute format('alter database %I owner to ${role}', current_database());
    for statement in
      -- Indexes and sequences of columns follow their tables.
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

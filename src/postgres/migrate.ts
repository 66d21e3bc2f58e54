import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as wait } from "node:timers/promises";
import type pg from "pg";
import { advisoryLocks } from "./advisory-locks.ts";
import { type Database, withOwnConnection } from "./database.ts";

interface Migration {
  /** The number in the file name: 1 in `0001_accounts.sql`. */
  readonly number: number;
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
}

interface Applied {
  number: number;
  name: string;
  checksum: string;
}

/** The folder in src: the compiler copies no SQL to dist. */
const ownFolder = new URL("../../src/postgres/migrations/", import.meta.url);

/** The first line of a migration that runs without a transaction. */
const outsideTransaction = "-- transaction: off\n";
const retryMs = 100;

/**
 * Brings the database to the version of this code. Several servers may call it at once: one migrates, the others wait.
 * Migrations in a row run in one transaction. A migration whose first line is `-- transaction: off` runs statement by
 * statement outside a transaction, and is recorded after the last one.
 * @param only the numbers of the migrations to apply; all by default
 * @returns the names of the migrations that it applied, in order
 * @throws Error when a migration fails, an applied migration was changed, or the database is newer than this code
 */
export async function migrate(database: Database, folder = ownFolder, only?: ReadonlySet<number>): Promise<string[]> {
  const migrations = await readMigrations(folder);
  return withOwnConnection(database, async (client) => {
    // A migration of a large table may take longer than any call.
    await client.query("set statement_timeout = 0; set lock_timeout = 0");
    await lockSession(client);
    await client.query("begin");
    await client.query(`
      create table if not exists migration (
        number integer primary key,
        name text not null,
        checksum text not null,
        applied_at timestamptz not null default now()
      )`);
    const { rows } = await client.query<Applied>("select number, name, checksum from migration order by number");
    check(migrations, rows);
    const appliedNumbers = new Set(rows.map(({ number }) => number));
    const pending = migrations.filter(({ number }) => !appliedNumbers.has(number) && only?.has(number) !== false);
    await apply(client, pending);
    return pending.map(({ name }) => name);
  });
}

/**
 * Takes the lock until the session ends. It polls: a session that waits in a statement holds a snapshot, for which CREATE
 * INDEX CONCURRENTLY of the other server would wait.
 */
async function lockSession(client: pg.Client): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ free: boolean }>("select pg_try_advisory_lock($1) as free", [
      advisoryLocks.migrations,
    ]);
    if (rows[0]?.free === true) return;
    await wait(retryMs);
  }
}

/** Applies migrations in order. Begins in a transaction, and ends with none. */
async function apply(client: pg.Client, migrations: readonly Migration[]): Promise<void> {
  let isInTransaction = true;
  const setTransaction = async (wanted: boolean) => {
    if (wanted !== isInTransaction) await client.query(wanted ? "begin" : "commit");
    isInTransaction = wanted;
  };
  for (const migration of migrations) {
    const isOutside = migration.sql.startsWith(outsideTransaction);
    await setTransaction(!isOutside);
    if (isOutside) await applyOutside(client, migration);
    else await run(client, migration.sql, `migration ${migration.name} failed`);
    await client.query("insert into migration (number, name, checksum) values ($1, $2, $3)", [
      migration.number,
      migration.name,
      migration.checksum,
    ]);
  }
  await setTransaction(false);
}

async function applyOutside(client: pg.Client, { name, sql }: Migration): Promise<void> {
  const statements = sql.split(/;[ \t]*\n/).filter((statement) => /^\s*(?!--)\S/m.test(statement));
  for (const [index, statement] of statements.entries()) {
    const place = `statement ${index + 1} of ${statements.length}`;
    await run(client, statement, `migration ${name} failed at ${place}; the next start repeats it from statement 1`);
  }
  // `create index if not exists` takes the remains of a failed build for an index.
  const { rows } = await client.query<{ name: string }>(
    `select oid::regclass::text as name from pg_index join pg_class on oid = indexrelid
     where not indisvalid and relkind = 'i' and relnamespace = current_schema()::regnamespace`,
  );
  if (rows.length === 0) return;
  const names = rows.map((row) => row.name).join(", ");
  throw new Error(`migration ${name} leaves invalid indexes, it must drop them before it creates them: ${names}`);
}

async function run(client: pg.Client, sql: string, failure: string): Promise<void> {
  try {
    await client.query(sql);
  } catch (error) {
    throw new Error(`${failure}: ${(error as Error).message}`, { cause: error });
  }
}

function check(migrations: readonly Migration[], applied: readonly Applied[]): void {
  const byNumber = new Map(migrations.map((migration) => [migration.number, migration]));
  for (const { number, name, checksum } of applied) {
    const migration = byNumber.get(number);
    if (migration === undefined) throw new Error(`the database is newer than this server: it has migration ${name}`);
    if (migration.checksum !== checksum) {
      throw new Error(`migration ${name} was applied and has been changed since: migrations are append-only`);
    }
  }
}

/** Reads the migrations of this code, by number. */
export async function readMigrations(folder = ownFolder): Promise<Migration[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".sql")).toSorted();
  const taken = new Set<number>();
  return Promise.all(
    names.map(async (name) => {
      const number = Number(name.slice(0, 4));
      // Gaps are permitted: two branches may each take a number.
      if (!(number > 0) || taken.has(number)) throw new Error(`each migration needs a number of its own: ${name}`);
      taken.add(number);
      const sql = await readFile(new URL(name, folder), "utf8");
      return { number, name, sql, checksum: createHash("sha256").update(sql).digest("hex") };
    }),
  );
}

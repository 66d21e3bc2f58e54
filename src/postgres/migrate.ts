import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as wait } from "node:timers/promises";
import type pg from "pg";
import { tryLockSession } from "./advisory-locks.ts";
import { type Database, withOwnConnection } from "./database.ts";
import { isLockFailure } from "./errors.ts";

interface Migration {
  /** The number in the file name: 1 in `0001_accounts.sql`. */
  readonly number: number;
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
  /** Whether servers that do not know the migration cannot run on the database. */
  readonly isContract: boolean;
}

interface Applied {
  number: number;
  name: string;
  checksum: string;
  contract: boolean;
}

/** The folder in src: the compiler copies no SQL to dist. */
const ownFolder = new URL("../../src/postgres/migrations/", import.meta.url);

/** The first line of a migration that runs without a transaction. */
const outsideTransaction = "-- transaction: off\n";
/** The beginning of the first line of a migration that servers of the last release cannot run on. */
const contractMark = "-- contract: ";
const retryMs = 100;
/**
 * How long a migration waits for a lock. Calls of running servers queue behind a lock that a migration waits for, so it
 * gives up and repeats before they fail or a deadlock is detected.
 */
const lockTimeoutMs = 500;
const lockRetryMs = 1000;
/** How often a migration repeats: for ten minutes at least. */
const lockAttempts = 600;

/**
 * Brings the database to the version of this code. Several servers may call it at once: one migrates, the others wait.
 * Each migration runs in a transaction of its own, so that servers that run wait for few locks, and for a short time. A
 * migration whose first line is `-- transaction: off` runs statement by statement outside a transaction, and is recorded
 * after the last one.
 * @param only the numbers of the migrations to apply; all by default
 * @returns the names of the migrations that it applied, in order
 * @throws Error when a migration fails, an applied migration was changed, or the database has a contract migration that this
 *   code does not know
 */
export async function migrate(database: Database, folder = ownFolder, only?: ReadonlySet<number>): Promise<string[]> {
  const migrations = await readMigrations(folder);
  return withOwnConnection(database, async (client) => {
    // A migration of a large table may take longer than any call.
    await client.query("set statement_timeout = 0; set lock_timeout = 0");
    await lockSession(client);
    await client.query(`
      create table if not exists migration (
        number integer primary key,
        name text not null,
        checksum text not null,
        applied_at timestamptz not null default now()
      );
      alter table migration add column if not exists contract boolean not null default false`);
    const { rows } = await client.query<Applied>(
      "select number, name, checksum, contract from migration order by number",
    );
    check(migrations, rows);
    const appliedNumbers = new Set(rows.map(({ number }) => number));
    const pending = migrations.filter(({ number }) => !appliedNumbers.has(number) && only?.has(number) !== false);
    for (const migration of pending) await apply(client, migration);
    return pending.map(({ name }) => name);
  });
}

/**
 * Takes the lock until the session ends. It polls: a session that waits in a statement holds a snapshot, for which CREATE
 * INDEX CONCURRENTLY of the other server would wait.
 */
async function lockSession(client: pg.Client): Promise<void> {
  while (!(await tryLockSession(client, "migrations"))) await wait(retryMs);
}

async function apply(client: pg.Client, migration: Migration): Promise<void> {
  if (migration.sql.startsWith(outsideTransaction)) {
    await applyOutside(client, migration);
    return record(client, migration);
  }
  for (let attempt = 1; ; attempt += 1) {
    try {
      await client.query(`begin; set local lock_timeout = ${lockTimeoutMs}`);
      await run(client, migration.sql, `migration ${migration.name} failed`);
      await record(client, migration);
      await client.query("commit");
      return;
    } catch (error) {
      await client.query("rollback").catch(() => undefined);
      if (!isLockFailure((error as Error).cause) || attempt === lockAttempts) throw error;
      await wait(lockRetryMs);
    }
  }
}

async function record(client: pg.Client, { number, name, checksum, isContract }: Migration): Promise<void> {
  await client.query("insert into migration (number, name, checksum, contract) values ($1, $2, $3, $4)", [
    number,
    name,
    checksum,
    isContract,
  ]);
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
  for (const { number, name, checksum, contract } of applied) {
    const migration = byNumber.get(number);
    if (migration === undefined && contract) {
      throw new Error(`the database is newer than this server: it has migration ${name}`);
    }
    if (migration !== undefined && migration.checksum !== checksum) {
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
      const checksum = createHash("sha256").update(sql).digest("hex");
      return { number, name, sql, checksum, isContract: sql.startsWith(contractMark) };
    }),
  );
}

import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { advisoryLocks } from "./advisory-locks.ts";
import type { Database } from "./database.ts";

interface Migration {
  /** The number in its name: 1 of `0001_accounts.sql`. */
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

/** The same folder from src and from dist, where the compiler copies no SQL. */
const ownFolder = new URL("../../src/postgres/migrations/", import.meta.url);

/**
 * Brings the database to the version of this code; safe when several servers start at once: one does it, the others
 * wait. Migrations are append-only.
 * @throws when a migration that was applied has been changed since, or when the database is newer than this code
 */
export async function migrate(database: Database, folder = ownFolder): Promise<void> {
  const migrations = await readMigrations(folder);
  await database.transaction(async (transaction) => {
    // A migration of a large table takes longer than any call may, and so does the wait for another server's.
    await transaction.raw("set local statement_timeout = 0; set local lock_timeout = 0");
    await transaction.raw("select pg_advisory_xact_lock(?)", [advisoryLocks.migrations]);
    await transaction.raw(`
      create table if not exists migration (
        number integer primary key,
        name text not null,
        checksum text not null,
        applied_at timestamptz not null default now()
      )`);
    const applied = await transaction<Applied>("migration").select("number", "name", "checksum").orderBy("number");
    check(migrations, applied);
    const appliedNumbers = new Set(applied.map(({ number }) => number));
    for (const { sql, ...row } of migrations) {
      if (appliedNumbers.has(row.number)) continue;
      // Knex takes a bare question mark for a parameter, in text and operators too.
      await transaction.raw(sql.replaceAll("?", String.raw`\?`));
      await transaction("migration").insert(row);
    }
  });
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

async function readMigrations(folder: URL): Promise<Migration[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".sql")).toSorted();
  const taken = new Set<number>();
  return Promise.all(
    names.map(async (name) => {
      const number = Number(name.slice(0, 4));
      // A gap is fine: two branches can then take a number each.
      if (!(number > 0) || taken.has(number)) throw new Error(`each migration needs a number of its own: ${name}`);
      taken.add(number);
      const sql = await readFile(new URL(name, folder), "utf8");
      return { number, name, sql, checksum: createHash("sha256").update(sql).digest("hex") };
    }),
  );
}

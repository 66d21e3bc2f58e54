import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as wait } from "node:timers/promises";
import type pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import { type Day, dayAt } from "../../shared/calendar.ts";
import { tryLockSession } from "../advisory-locks.ts";
import { type Database, withOwnConnection } from "../database.ts";
import { migrate, readMigrations } from "../migrate.ts";
import { ensurePartitions, type Partitioned } from "../partitions.ts";
import type { OnProgress } from "./backup.ts";
import { quoteName, quoteTable, readApplied, readCatalog } from "./catalog.ts";
import { type BackupHeader, type BackupTrailer, DamagedBackupError, parseJson, readFrames } from "./format.ts";

export interface RestoreOptions {
  readonly path: string;
  /** Aborted to interrupt the restore, which then changes no row. */
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
}

/** PostgreSQL releases the lock of a connection some time after its end: that of a server, or of the check before. */
const maxLockWaitMs = 3000;
const lockPollMs = 50;

/** The table that migrations put a row into. */
const seeded = "company_total";

/**
 * Restores a backup into a database without rows. The whole file is checked before anything changes, all rows come in one
 * transaction, and migrations newer than the backup run afterwards.
 * @returns the rows of each table
 * @throws DamagedBackupError; Error when the database holds rows or is in use, or the backup is newer than this code
 */
export async function restoreBackup(database: Database, options: RestoreOptions) {
  const { path } = options;
  const { header } = await checkBackup(path);
  await checkVersions(header);
  await withOwnConnection(database, (client) => checkTarget(client, header));
  await migrate(database, undefined, new Set(header.migrations.map(({ number }) => number)));
  for (const { name, days } of header.tables) {
    const partitions = new Set(days.map(toDay));
    if (partitions.size > 0) await ensurePartitions(database, name as Partitioned, partitions);
  }
  const rows = await withOwnConnection(database, (client) => load(client, header, options));
  await migrate(database);
  return rows;
}

/** Reads the whole file and compares its checksum. */
async function checkBackup(path: string): Promise<{ header: BackupHeader; trailer: BackupTrailer }> {
  let header: BackupHeader | undefined;
  let trailer: BackupTrailer | undefined;
  for await (const { kind, payload } of readFrames(path)) {
    if (kind === "H") header = parseJson(payload) as BackupHeader;
    if (kind === "Z") trailer = parseJson(payload) as BackupTrailer;
  }
  if (header === undefined || trailer === undefined) throw new DamagedBackupError("the backup is damaged: no header");
  return { header, trailer };
}

async function checkVersions({ migrations }: BackupHeader): Promise<void> {
  const known = new Map((await readMigrations()).map(({ number, checksum }) => [number, checksum]));
  for (const { number, checksum } of migrations) {
    if (known.get(number) === checksum) continue;
    throw new Error(`the backup is newer than this code, which has no migration ${number} of it: use a newer release`);
  }
}

async function checkTarget(client: pg.ClientBase, { migrations }: BackupHeader): Promise<void> {
  await lockServer(client);
  const numbers = new Set(migrations.map(({ number }) => number));
  if ((await readApplied(client)).some(({ number }) => !numbers.has(number))) {
    throw new Error("the database is newer than the backup: restore into a database without tables");
  }
  await checkEmpty(client);
}

/** Held until the connection ends: no server starts on the database, and none runs. */
async function lockServer(client: pg.ClientBase): Promise<void> {
  const startedMs = performance.now();
  while (!(await tryLockSession(client, "server"))) {
    if (performance.now() - startedMs > maxLockWaitMs) throw new Error("a server runs on this database: stop it first");
    await wait(lockPollMs);
  }
}

async function checkEmpty(client: pg.ClientBase): Promise<void> {
  for (const { name } of await readCatalog(client)) {
    if (name === seeded) continue;
    const { rows } = await client.query(`select exists (select from ${quoteName(name)}) as filled`);
    if (rows[0]?.filled === true) throw new Error(`the database must be empty, but ${name} holds rows`);
  }
}

async function load(client: pg.ClientBase, header: BackupHeader, options: RestoreOptions) {
  await client.query(`
    set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set datestyle to iso; set timezone to utc`);
  await lockServer(client);
  await client.query("begin");
  const tables = await readCatalog(client);
  const describe = (list: BackupHeader["tables"]) => JSON.stringify(list.map(({ name, columns }) => [name, columns]));
  if (describe(tables) !== describe(header.tables)) throw new Error("the tables of the database are not of the backup");
  const names = tables.map(({ name }) => quoteName(name));
  await client.query(`lock table ${names.join(", ")} in share row exclusive mode`);
  await checkEmpty(client);
  await client.query(`delete from ${seeded}`);
  // Triggers keep totals and histories, which are in the backup.
  for (const name of names) await client.query(`alter table ${name} disable trigger user`);
  const rows = await copyTables(client, header, options);
  for (const name of names) await client.query(`alter table ${name} enable trigger user`);
  for (const { table, column, value, isCalled } of header.sequences) {
    await client.query("select setval(pg_get_serial_sequence($1, $2), $3::bigint, $4)", [
      quoteName(table),
      column,
      value,
      isCalled,
    ]);
  }
  await client.query("commit");
  await client.query("analyze");
  return rows;
}

async function copyTables(
  client: pg.ClientBase,
  { tables }: BackupHeader,
  { path, signal, onProgress }: RestoreOptions,
): Promise<BackupTrailer["rows"]> {
  const frames = readFrames(path);
  const rows: Record<string, number> = {};
  let bytes = 0;
  let next = await frames.next();
  while (next.done !== true) {
    const { kind, payload } = next.value;
    next = await frames.next();
    if (kind === "Z" && JSON.stringify((parseJson(payload) as BackupTrailer).rows) !== JSON.stringify(rows)) {
      throw new DamagedBackupError("the restored rows are not as many as the backup counts");
    }
    if (kind !== "T") continue;
    const table = tables.find(({ name }) => name === payload.toString());
    if (table === undefined) throw new DamagedBackupError("the backup holds an unknown table");
    const copy = client.query(copyFrom(`copy ${quoteTable(table)} from stdin`));
    await pipeline(Readable.from(piecesOf(table.name)), copy, { signal });
    rows[table.name] = copy.rowCount;
  }
  return rows;

  async function* piecesOf(name: string): AsyncGenerator<Buffer> {
    for (; next.done !== true && next.value.kind === "D"; next = await frames.next()) {
      onProgress(name, (bytes += next.value.payload.length));
      yield next.value.payload;
    }
  }
}

/** YYYYMMDD as a day. */
function toDay(text: string): Day {
  return dayAt(Date.parse(`${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}T00:00Z`), 0);
}

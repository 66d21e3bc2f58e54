import type pg from "pg";
import { to as copyTo } from "pg-copy-streams";
import { quoteName, readApplied, readCatalog, readSequences } from "./catalog.ts";
import { createBackupEncoder, maxFrameBytes } from "./format.ts";

/** Called as a backup or a restore moves on. */
export type OnProgress = (table: string, bytes: number) => void;

/**
 * Reads the whole database as it is at one moment, and yields a backup piece by piece. Servers go on meanwhile; retention
 * waits. The connection is of no use afterwards.
 * @throws Error when the database has no tables, or a migration runs at the same time
 */
export async function* createBackup(client: pg.ClientBase, onProgress: OnProgress): AsyncGenerator<Buffer> {
  await client.query(`
    set statement_timeout = 0; set idle_in_transaction_session_timeout = 0;
    set datestyle to iso; set timezone to utc; set bytea_output to hex; set extra_float_digits to 3`);
  const names = (await readCatalog(client)).map(({ name }) => quoteName(name));
  if ((await readApplied(client)).length === 0)
    throw new Error("the database has no tables: there is nothing to back up");
  await client.query("begin isolation level repeatable read read only");
  // The snapshot is taken by the first query after this. No partition is dropped between it and its copy.
  await client.query(`lock table ${names.join(", ")} in access share mode`);
  const tables = await readCatalog(client);
  if (tables.length !== names.length) throw new Error("a migration runs at the same time: try again");
  const encoder = createBackupEncoder();
  const migrations = await readApplied(client);
  yield encoder.begin({ migrations, tables, sequences: await readSequences(client) });
  const rows: Record<string, number> = {};
  let bytes = 0;
  for (const { name, columns } of tables) {
    yield encoder.table(name);
    const selected = `select ${columns.map(quoteName).join(", ")} from ${quoteName(name)}`;
    const copy = client.query(copyTo(`copy (${selected}) to stdout`));
    for await (const piece of copy as AsyncIterable<Buffer>) {
      for (let start = 0; start < piece.length; start += maxFrameBytes) {
        yield encoder.rows(piece.subarray(start, start + maxFrameBytes));
      }
      onProgress(name, (bytes += piece.length));
    }
    rows[name] = copy.rowCount;
  }
  yield encoder.end(rows);
  await client.query("commit");
}

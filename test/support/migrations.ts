import { copyFile, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Database } from "../../src/postgres/database.ts";
import { migrate } from "../../src/postgres/migrate.ts";

const all = new URL("../../src/postgres/migrations/", import.meta.url);

/** Brings an empty database to the version that had so many migrations. */
export async function migrateUpTo(database: Database, number: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-migrations-"));
  try {
    const names = (await readdir(all)).filter((name) => Number(name.slice(0, 4)) <= number);
    for (const name of names) await copyFile(new URL(name, all), join(folder, name));
    await migrate(database, pathToFileURL(`${folder}/`));
  } finally {
    await rm(folder, { recursive: true });
  }
}

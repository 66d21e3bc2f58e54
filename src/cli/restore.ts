import { restoreBackup } from "../postgres/backup/restore.ts";
import type { CommandInput } from "./command.ts";
import { exitCodes } from "./exit-codes.ts";
import { withDatabase } from "./local-database.ts";
import { formatBytes } from "./output.ts";

/** Restores a backup into the database of the settings, which must be empty, and prints the rows of each table. */
export async function restoreDatabase(input: CommandInput): Promise<number> {
  const [path = ""] = input.arguments;
  const { signal, output } = input;
  const onProgress = (table: string, bytes: number) => output.progress(`${table}: ${formatBytes(bytes)} in all`);
  const rows = await withDatabase(input, (database) => restoreBackup(database, { path, signal, onProgress }));
  output.rows(Object.entries(rows).map(([table, count]) => ({ table, rows: count })));
  return exitCodes.fine;
}

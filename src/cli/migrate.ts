import { migrate } from "../postgres/migrate.ts";
import type { CommandInput } from "./command.ts";
import { exitCodes } from "./exit-codes.ts";
import { withDatabase } from "./local-database.ts";

/** Brings the database to the version of this code, and prints the migrations that it applied. */
export async function migrateDatabase(input: CommandInput): Promise<number> {
  const applied = await withDatabase(input, (database) => migrate(database));
  input.output.rows(applied.map((migration) => ({ migration })));
  if (applied.length === 0) input.output.note("the database is up to date");
  return exitCodes.fine;
}

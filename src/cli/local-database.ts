import { readConfig } from "../config.ts";
import { type Database, openDatabase } from "../postgres/database.ts";
import { startEmbedded } from "../postgres/embedded/embedded.ts";
import { checkSession } from "../postgres/sessions.ts";
import type { CommandInput } from "./command.ts";

/** A long statement of an operator may take this long. */
const statementTimeoutMs = 3_600_000;

/**
 * Runs work on the database of the settings: DATABASE_URL, or the embedded server, which is started and stopped.
 * @throws ConfigError when a setting is wrong; Error when the embedded server is in use by a running server
 */
export async function withDatabase<Result>(
  { environment }: Pick<CommandInput, "environment">,
  work: (database: Database) => Promise<Result>,
): Promise<Result> {
  const config = readConfig(environment);
  if (config.DATABASE_URL !== "") await checkSession(config.DATABASE_URL);
  const embedded =
    config.DATABASE_URL === "" ? await startEmbedded({ folder: config.DATA_DIR, onExit: () => {} }) : undefined;
  const database = openDatabase({ url: embedded?.url ?? config.DATABASE_URL, poolSize: 1, statementTimeoutMs });
  try {
    return await work(database);
  } finally {
    await database.destroy();
    await embedded?.stop();
  }
}

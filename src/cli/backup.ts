import { createWriteStream, existsSync } from "node:fs";
import { link, open, rm } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createBackup } from "../postgres/backup/backup.ts";
import { withOwnConnection } from "../postgres/database.ts";
import { type CommandInput, optionOf, UsageError } from "./command.ts";
import { exitCodes } from "./exit-codes.ts";
import { withDatabase } from "./local-database.ts";
import { formatBytes } from "./output.ts";

/** Writes a backup to a file, which only its owner may read, or to stdout. A failed backup leaves no file. */
export async function backUpDatabase(input: CommandInput): Promise<number> {
  const path = optionOf(input, "output");
  const { stdout, output, signal } = input;
  if (path === undefined && (stdout as { isTTY?: boolean }).isTTY === true) {
    throw new UsageError("--output must be set, or stdout must be a file or a pipe");
  }
  let bytes = 0;
  const write = (destination: NodeJS.WritableStream) =>
    withDatabase(input, (database) =>
      withOwnConnection(database, async (client) => {
        const pieces = createBackup(client, (table, done) => {
          bytes = done;
          output.progress(`${table}: ${formatBytes(done)} in all`);
        });
        await pipeline(pieces, destination, { signal, end: path !== undefined });
      }),
    );
  if (path === undefined) {
    await write(stdout);
    // The pipeline does not wait for the last write of a stream that stays open.
    await new Promise<void>((done, fail) => {
      stdout.write("", (error) => (error ? fail(error) : done()));
    });
    output.note(`${bytes} bytes of rows`);
    return exitCodes.fine;
  }
  // A backup may take long: refused before it, and not only by the link.
  if (existsSync(path)) throw new Error(`${path} exists: remove it, or choose another name`);
  const part = `${path}.part`;
  try {
    await write(createWriteStream(part, { mode: 0o600 }));
    const file = await open(part, "r");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
    // A link, unlike a rename, does not replace an earlier backup.
    await link(part, path);
  } finally {
    await rm(part, { force: true });
  }
  output.value({ file: path, bytes }, `${path}: ${bytes} bytes of rows`);
  return exitCodes.fine;
}

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** The documentation by file name. Names are looked up, never joined to a path: there is no way out of the folder. */
export type Files = ReadonlyMap<string, Buffer>;

/** Reads the HTML files of a folder once. */
export async function readFiles(folder: string): Promise<Files> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".html"));
  return new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))] as const)));
}

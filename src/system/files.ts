import { readdir, readFile } from "node:fs/promises";
import { extname, join } from "node:path";

/** The documentation by file name. Names are looked up, never joined to a path: there is no way out of the folder. */
export type Files = ReadonlyMap<string, DocumentFile>;

export interface DocumentFile {
  readonly contentType: string;
  readonly data: Buffer;
}

const contentTypes: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".json": "application/json",
  ".yaml": "application/yaml",
};

/** Reads the pages and the OpenAPI documents of some folders once. */
export async function readFiles(...folders: string[]): Promise<Files> {
  const files = new Map<string, DocumentFile>();
  for (const folder of folders) {
    for (const name of await readdir(folder)) {
      const contentType = contentTypes[extname(name)];
      if (contentType !== undefined) files.set(name, { contentType, data: await readFile(join(folder, name)) });
    }
  }
  return files;
}

import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { extname, join } from "node:path";

/** The documentation by file name. Names are looked up, never joined to a path: there is no way out of the folder. */
export type Files = ReadonlyMap<string, DocumentFile>;

export interface DocumentFile {
  readonly contentType: string;
  readonly data: Buffer;
  readonly etag: string;
  /** The Content-Security-Policy of the page. */
  readonly policy: string;
}

const contentTypes: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".json": "application/json",
  ".md": "text/markdown; charset=utf-8",
  ".yaml": "application/yaml",
};

/** Reads the pages and the OpenAPI documents of some folders once. */
export async function readFiles(...folders: string[]): Promise<Files> {
  const files = new Map<string, DocumentFile>();
  for (const folder of folders) {
    for (const name of await readdir(folder)) {
      const contentType = contentTypes[extname(name)];
      if (contentType === undefined) continue;
      const data = await readFile(join(folder, name));
      const etag = `"${createHash("sha256").update(data).digest("hex")}"`;
      files.set(name, { contentType, data, etag, policy: policyOf(data) });
    }
  }
  return files;
}

/** Permits the styles of a page, and by its hash the one script that the generator wrote into it. */
function policyOf(page: Buffer): string {
  const script = /<script>([\s\S]*?)<\/script>/.exec(page.toString("utf8"))?.[1];
  const hash = createHash("sha256")
    .update(script ?? "")
    .digest("base64");
  return `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'`;
}

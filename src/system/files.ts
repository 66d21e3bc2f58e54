import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { extname, join } from "node:path";

/** Documentation files by name. A request looks a name up and never builds a path, so path traversal is impossible. */
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

/** Reads the documentation files of the folders into memory. */
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

/** Allows the inline styles of the page, and its one generated script by hash. */
function policyOf(page: Buffer): string {
  const script = /<script>([\s\S]*?)<\/script>/.exec(page.toString("utf8"))?.[1];
  const hash = createHash("sha256")
    .update(script ?? "")
    .digest("base64");
  return `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'`;
}

import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * The secret of an installation without TOKEN_KEYS: made at the first start and kept in the data folder, readable by
 * its owner alone. Replace it by deleting the file, which ends all tokens, or with TOKEN_KEYS and an overlap.
 */
export async function keptSecret(dataDir: string): Promise<string> {
  const file = join(dataDir, "token.key");
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  try {
    await writeFile(file, randomBytes(48).toString("base64url"), { flag: "wx", mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  const secret = await readFile(file, "utf8");
  if (secret.length < 32) throw new Error(`${file} holds no key of 32 characters or more: remove it`);
  return secret;
}

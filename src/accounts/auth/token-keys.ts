import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * Returns the signing secret of an installation without TOKEN_KEYS. The first start generates it in the data folder,
 * readable by its owner only. Deleting the file ends all tokens; TOKEN_KEYS allows an overlap.
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
  if (secret.length < 32)
    throw new Error(`${file} must hold a key of 32 characters or more; remove the file to generate one`);
  return secret;
}

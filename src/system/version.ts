import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

export interface Version {
  readonly major: number;
  readonly minor: number;
  /** The patch number and the commit, `0.1a2b3c4`. */
  readonly build: string;
}

/**
 * Reads the version from package.json and the commit.
 * @param folder the folder of package.json
 * @param commit the commit that the image was built from; empty in a checkout, where git is asked
 */
export async function readVersion(folder: string, commit: string): Promise<Version> {
  const text = await readFile(`${folder}/package.json`, "utf8");
  const [major = 0, minor = 0, patch = 0] = (JSON.parse(text) as { version: string }).version.split(".").map(Number);
  const revision = commit === "" ? await headOf(folder) : commit;
  return { major, minor, build: `${patch}.${revision}`.slice(0, 64) };
}

async function headOf(folder: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)("git", ["rev-parse", "--short", "HEAD"], { cwd: folder });
    return stdout.trim();
  } catch {
    // An unpacked archive has no commit.
    return "unknown";
  }
}

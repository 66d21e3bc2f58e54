import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { resolve } from "node:path";
import { promisify } from "node:util";

const execute = promisify(execFile);
const cache = resolve("node_modules/.cache");

/**
 * Builds the last release, the commit in .ci/last-release, with the packages that it locks. A later call finds the build in
 * node_modules/.cache.
 * @returns the folder of the release; run `dist/main.js` in it
 * @throws Error when git does not have the commit
 */
export async function buildRelease(): Promise<string> {
  const commit = readFileSync(".ci/last-release", "utf8").trim();
  const folder = `${cache}/release-${commit.slice(0, 12)}`;
  if (existsSync(folder)) return folder;
  await mkdir(cache, { recursive: true });
  // Built aside and then renamed: a build that fails leaves nothing, and two builds at once do not meet.
  const building = await mkdtemp(`${folder}-`);
  // PostgreSQL runs as a user of its own.
  await chmod(building, 0o755);
  try {
    await execute("sh", ["-c", 'git archive "$1" | tar -x -C "$2"', "sh", commit, building]).catch((cause: unknown) => {
      throw new Error(`git has no commit ${commit}: fetch the whole history`, { cause });
    });
    const options = ["--omit=dev", "--prefer-offline", "--no-audit", "--no-fund"];
    await execute("npm", ["ci", ...options], { cwd: building });
    // The release has been checked. Without checks, no types of packages are needed.
    const withoutTypes = ["--noCheck", "--types", "", "--incremental", "false"];
    await execute(resolve("node_modules/.bin/tsc"), ["-p", "tsconfig.build.json", ...withoutTypes], { cwd: building });
    await rename(building, folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
    });
  } finally {
    await rm(building, { recursive: true, force: true });
  }
  return folder;
}

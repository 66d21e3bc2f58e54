import { chmod, chown, readdir } from "node:fs/promises";
import type { ProgramOwner } from "./programs.ts";

/** What a data folder holds, and what a file system puts into an empty volume. */
const ours = /^(postgres(-.*)?|postgres\.password|admin\.password|token\.key|lost\+found)$/;

/** Whether nothing else is in the folder: DATA_DIR may be one that others use, such as /tmp. */
export async function holdsOnlyOurs(folder: string): Promise<boolean> {
  return (await readdir(folder)).every((name) => ours.test(name));
}

/**
 * Closes the folder to all but its owner, who is the one that runs PostgreSQL: root passes anyway. A folder of somebody
 * else stays as it is.
 */
export async function closeFolder(folder: string, owner: ProgramOwner | undefined): Promise<void> {
  try {
    if (owner !== undefined) await chown(folder, owner.uid, owner.gid);
    await chmod(folder, 0o700);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
  }
}

import { chmod, chown, readdir } from "node:fs/promises";
import type { ProgramOwner } from "./programs.ts";

/** Files of a data folder, and those that a file system puts into an empty volume. */
const expectedFiles = /^(postgres(-.*)?|postgres\.password|admin\.password|token\.key|lost\+found)$/;

/** Returns whether the folder holds only files of this service. DATA_DIR may be shared, such as /tmp. */
export async function isDedicated(folder: string): Promise<boolean> {
  return (await readdir(folder)).every((name) => expectedFiles.test(name));
}

/**
 * Makes the user that runs PostgreSQL the owner of the folder, and closes it to every other user except root. Leaves a
 * folder of another user unchanged.
 */
export async function closeFolder(folder: string, owner: ProgramOwner | undefined): Promise<void> {
  try {
    if (owner !== undefined) await chown(folder, owner.uid, owner.gid);
    await chmod(folder, 0o700);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
  }
}

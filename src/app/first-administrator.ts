import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { createFirstAdministrator } from "../accounts/auth/first-administrator.ts";
import type { HashNewPassword } from "../accounts/auth/new-passwords.ts";
import { ensureCompany } from "../accounts/companies/store.ts";
import { insertUser } from "../accounts/users/store.ts";
import type { Config } from "../config.ts";
import type { Databases } from "./databases.ts";

export interface FirstAdministratorResources {
  readonly databases: Databases;
  readonly hashNewPassword: HashNewPassword;
  /** Shows a line to the person who starts the server. */
  readonly announce: (line: string) => void;
  readonly notices: Logger;
}

/**
 * Creates the first administrator where there is none. A generated password goes to DATA_DIR/admin.password on the
 * embedded server, otherwise to `announce`.
 */
export async function ensureAdministrator(
  { ADMIN_USERNAME: username, ADMIN_PASSWORD: password, ADMIN_COMPANY: companyKey, DATA_DIR }: Config,
  { databases: { database, isEmbedded }, hashNewPassword, announce, notices }: FirstAdministratorResources,
): Promise<void> {
  const passwordFile = isEmbedded && password === "" ? join(DATA_DIR, "admin.password") : undefined;
  const handOver = async (generated: string): Promise<void> => {
    if (passwordFile !== undefined) await writePassword(passwordFile, generated);
    else announce(`The first administrator is ${username}, password ${generated} (it is not shown again).`);
  };
  const isCreated = await createFirstAdministrator(
    database,
    (chosen) => hashNewPassword({ username, password: chosen, field: "ADMIN_PASSWORD" }),
    { ensureCompany, insertUser },
    { username, password, companyKey, handOver },
  );
  if (isCreated) notices.info({ username, passwordFile }, "first administrator created");
}

/** Writes the password to a file that only its owner may read. A file of an earlier failed start is replaced. */
async function writePassword(file: string, password: string): Promise<void> {
  await rm(file, { force: true });
  await writeFile(file, `${password}\n`, { mode: 0o600, flag: "wx", flush: true });
}

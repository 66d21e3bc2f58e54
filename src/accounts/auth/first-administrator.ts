import { randomBytes } from "node:crypto";
import { type Database, inTransaction } from "../../postgres/database.ts";

export interface FirstAdministrator {
  readonly username: string;
  /** Empty: one is made. */
  readonly password: string;
  readonly companyKey: string;
}

/** Any number that no other advisory lock of the service has. */
const lockKey = 7_043_002;

/**
 * Creates the first administrator where no user has the role ADMIN; safe when several servers start at once.
 * @returns the password that was made, to be shown once; undefined where none was made
 */
export function createFirstAdministrator(
  database: Database,
  hashPassword: (password: string) => Promise<string>,
  { username, password, companyKey }: FirstAdministrator,
): Promise<string | undefined> {
  return inTransaction(database, async (transaction) => {
    await transaction.raw("select pg_advisory_xact_lock(?)", [lockKey]);
    const existing = await transaction("user_account").first("id").whereRaw("'ADMIN' = any (roles)");
    if (existing !== undefined) return undefined;
    const taken = await transaction("user_account").first("id").where({ username });
    if (taken !== undefined) throw new Error(`there is no administrator, and ADMIN_USERNAME is taken: ${username}`);
    const made = password === "" ? randomBytes(15).toString("base64url") : undefined;
    await transaction("company").insert({ key: companyKey }).onConflict("key").ignore();
    await transaction("user_account").insert({
      username,
      password_hash: await hashPassword(made ?? password),
      company_key: companyKey,
      enabled: true,
      roles: ["ADMIN"],
      timezone: 0,
    });
    return made;
  });
}

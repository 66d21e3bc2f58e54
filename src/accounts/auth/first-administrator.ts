import { randomBytes } from "node:crypto";
import { advisoryLocks } from "../../postgres/advisory-locks.ts";
import { type Database, inTransaction } from "../../postgres/database.ts";

export interface FirstAdministrator {
  readonly username: string;
  /** Empty: a password is generated. */
  readonly password: string;
  readonly companyKey: string;
  /** Called with a generated password before the administrator is created, so the password cannot be lost. */
  readonly handOver: (password: string) => Promise<void>;
}

/**
 * Creates the first administrator when no user has the role ADMIN. Several servers may call it at once.
 * @returns whether it created the administrator
 */
export function createFirstAdministrator(
  database: Database,
  hashPassword: (password: string) => Promise<string>,
  { username, password, companyKey, handOver }: FirstAdministrator,
): Promise<boolean> {
  return inTransaction(database, async (transaction) => {
    await transaction.raw("select pg_advisory_xact_lock(?)", [advisoryLocks.firstAdministrator]);
    const existing = await transaction("user_account").first("id").whereRaw("'ADMIN' = any (roles)");
    if (existing !== undefined) return false;
    const taken = await transaction("user_account").first("id").where({ username });
    if (taken !== undefined) throw new Error(`there is no administrator, and ADMIN_USERNAME is taken: ${username}`);
    const chosen = password === "" ? randomBytes(15).toString("base64url") : password;
    if (password === "") await handOver(chosen);
    await transaction("company").insert({ key: companyKey }).onConflict("key").ignore();
    await transaction("user_account").insert({
      username,
      password_hash: await hashPassword(chosen),
      company_key: companyKey,
      enabled: true,
      roles: ["ADMIN"],
      timezone: 0,
    });
    return true;
  });
}

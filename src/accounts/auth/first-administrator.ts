import { randomBytes } from "node:crypto";
import { lockInTransaction } from "../../postgres/advisory-locks.ts";
import { type Database, inTransaction, type Transaction } from "../../postgres/database.ts";
import { defineStatements, queryRows } from "../../postgres/statements.ts";

export interface FirstAdministrator {
  readonly username: string;
  /** Empty: a password is generated. */
  readonly password: string;
  readonly companyKey: string;
  /** Called with a generated password before the administrator is created, so the password cannot be lost. */
  readonly handOver: (password: string) => Promise<void>;
}

/** How the owners of the tables write them. */
export interface AccountWriters {
  /** Inserts a company where it does not exist. */
  readonly ensureCompany: (transaction: Transaction, key: string) => Promise<void>;
  readonly insertUser: (transaction: Transaction, user: NewAdministrator) => Promise<void>;
}

interface NewAdministrator {
  readonly username: string;
  readonly password_hash: string;
  readonly company_key: string;
  readonly name: null;
  readonly email: null;
  readonly phone: null;
  readonly enabled: boolean;
  readonly roles: string[];
  readonly timezone: number;
}

/**
 * Creates the first administrator when no user has the role ADMIN. Several servers may call it at once.
 * @returns whether it created the administrator
 */
export function createFirstAdministrator(
  database: Database,
  hashPassword: (password: string) => Promise<string>,
  { ensureCompany, insertUser }: AccountWriters,
  { username, password, companyKey, handOver }: FirstAdministrator,
): Promise<boolean> {
  return inTransaction(database, async (transaction) => {
    await lockInTransaction(transaction, "firstAdministrator");
    if ((await queryRows(transaction, sql.findAdministrator)).length > 0) return false;
    const isTaken = (await queryRows(transaction, sql.findByUsername, [username])).length > 0;
    if (isTaken) throw new Error(`there is no administrator, and ADMIN_USERNAME is taken: ${username}`);
    const chosen = password === "" ? randomBytes(15).toString("base64url") : password;
    if (password === "") await handOver(chosen);
    await ensureCompany(transaction, companyKey);
    await insertUser(transaction, {
      username,
      password_hash: await hashPassword(chosen),
      company_key: companyKey,
      name: null,
      email: null,
      phone: null,
      enabled: true,
      roles: ["ADMIN"],
      timezone: 0,
    });
    return true;
  });
}

const sql = defineStatements("first-administrator", {
  findAdministrator: "select id from user_account where 'ADMIN' = any (roles) limit 1",
  findByUsername: "select id from user_account where username = $1",
});

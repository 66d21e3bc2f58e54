import type { Database } from "../../postgres/database.ts";
import { type Principal, roleFromName } from "../../shared/principal.ts";

/** A user as the login checks it. */
export interface Account extends Principal {
  readonly enabled: boolean;
  readonly passwordHash: string | null;
  /** Raised by every password change. Tokens of an earlier version are not valid. */
  readonly tokenVersion: number;
}

interface Row {
  id: number;
  username: string;
  company_key: string;
  roles: string[];
  timezone: number;
  enabled: boolean;
  password_hash: string | null;
  token_version: number;
}

const columns = [
  "id",
  "username",
  "company_key",
  "roles",
  "timezone",
  "enabled",
  "password_hash",
  "token_version",
] as const;

/** Finds an account by its login. Returns undefined when there is none. */
export async function findAccountByUsername(database: Database, username: string): Promise<Account | undefined> {
  return toAccount(
    await database<Row>("user_account")
      .first(...columns)
      .where({ username }),
  );
}

/** Finds an account by its id. Returns undefined when there is none. */
export async function findAccountById(database: Database, id: number): Promise<Account | undefined> {
  return toAccount(
    await database<Row>("user_account")
      .first(...columns)
      .where({ id }),
  );
}

function toAccount(row: Row | undefined): Account | undefined {
  if (row === undefined) return undefined;
  return {
    userId: row.id,
    username: row.username,
    companyKey: row.company_key,
    roles: row.roles.map((name) => roleFromName(name)),
    timezone: row.timezone,
    enabled: row.enabled,
    passwordHash: row.password_hash,
    tokenVersion: row.token_version,
  };
}

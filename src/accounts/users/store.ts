import { lockInTransaction } from "../../postgres/advisory-locks.ts";
import { textColumnOf } from "../../postgres/columns.ts";
import type { Database, Transaction } from "../../postgres/database.ts";
import { defineStatements, keepPlan, queryRows } from "../../postgres/statements.ts";
import { type Page, toContainsPattern } from "../../shared/pagination.ts";
import type { Scope } from "../../shared/principal.ts";
import { toStoredName } from "../../shared/stored-names.ts";

/** A row of user_account. */
export interface UserRow {
  readonly id: number;
  readonly username: string;
  readonly name: string | null;
  readonly email: string | null;
  readonly phone: string | null;
  readonly company_key: string;
  readonly enabled: boolean;
  readonly roles: string[];
  readonly timezone: number;
}

export type NewUser = Omit<UserRow, "id"> & { readonly password_hash: string | null };

interface PasswordRow {
  id: number;
  password_hash: string;
  token_version: number;
}

/** Selects the users of a list. */
export interface UserFilter {
  readonly scope: Scope;
  readonly filter: string | undefined;
  readonly companyKey: string | undefined;
  readonly group: "TOTAL" | "ACTIVE" | "BLOCKED" | "ADMINS";
}

/** The roles by the names that answers have. */
const contractRoles = `array_replace(roles, '${toStoredName("role", "BOT")}', 'BOT')`;

/** The columns of a user in a list. */
export const listedColumns = [
  "username",
  "name",
  "email",
  "phone",
  "company_key",
  "enabled",
  "roles",
  "timezone",
] as const;
const columns = ["id", ...listedColumns] as const;

/** Inserts a user. @throws a unique violation when the username is taken */
export async function insertUser(transaction: Transaction, user: NewUser): Promise<void> {
  await transaction("user_account").insert(user);
}

/** Finds a user. Returns undefined when the scope has no such user. */
export async function findUser(database: Database, scope: Scope, username: string): Promise<UserRow | undefined> {
  const [user] = await findInScope(database, scope, username);
  return user;
}

function findInScope(database: Database, scope: Scope, username: string): Promise<UserRow[]> {
  switch (scope.kind) {
    case "everything":
      return queryRows(database, sql.findUser, [username]);
    case "company":
      return queryRows(database, sql.findUserOfCompany, [username, scope.companyKey]);
    case "self":
      return queryRows(database, sql.findUserItself, [username, scope.userId]);
  }
}

/** Returns company keys by username. Unknown usernames are absent. */
export async function findUserCompanies(
  database: Database,
  usernames: readonly string[],
): Promise<Map<string, string>> {
  const values = [textColumnOf(usernames, (username) => username)];
  const rows = await queryRows<Pick<UserRow, "username" | "company_key">>(database, sql.findCompanies, values);
  return new Map(rows.map(({ username, company_key }) => [username, company_key]));
}

const userByName = `select ${columns.join(", ")} from user_account where username = $1`;

const sql = defineStatements("users", {
  findUser: keepPlan(userByName),
  findUserOfCompany: keepPlan(`${userByName} and company_key = $2`),
  findUserItself: keepPlan(`${userByName} and id = $2`),
  findCompanies: keepPlan("select username, company_key from user_account where username = any ($1)"),
  findAdministrator: `
    select id from user_account
    where 'ADMIN' = any (roles) and enabled and password_hash is not null limit 1`,
});

/** Finds a user and locks its row until the transaction ends. */
export function findUserForUpdate(
  transaction: Transaction,
  scope: Scope,
  username: string,
): Promise<UserRow | undefined> {
  return visible(transaction, scope)
    .first(...columns)
    .where({ username })
    .forUpdate();
}

/**
 * Updates a user. A null password hash leaves the stored one. A new password or a disable revokes all earlier tokens, so a
 * user who is enabled later must log in again.
 */
export async function updateUser(transaction: Transaction, id: number, user: NewUser): Promise<void> {
  const { password_hash, ...fields } = user;
  const update = transaction("user_account")
    .where({ id })
    .update({ ...fields, ...(password_hash !== null && { password_hash }) });
  if (password_hash !== null || !user.enabled) void update.increment("token_version");
  await update;
}

/** Stores a password unless it was changed since the token version was read. Returns the new token version. */
export async function updatePassword(
  transaction: Transaction,
  { userId, tokenVersion }: { readonly userId: number; readonly tokenVersion: number },
  passwordHash: string,
): Promise<number | undefined> {
  const [row] = await transaction<PasswordRow>("user_account")
    .where({ id: userId, token_version: tokenVersion })
    .update({ password_hash: passwordHash, token_version: tokenVersion + 1 })
    .returning("token_version");
  return row?.token_version;
}

/** Deletes a user, if it exists. */
export async function deleteUser(transaction: Transaction, id: number): Promise<void> {
  await transaction("user_account").where({ id }).delete();
}

/**
 * Returns whether an administrator who can log in remains. Takes a lock until the transaction ends: two administrators
 * who disable each other at the same time must not both succeed.
 */
export async function hasAdministrator(transaction: Transaction): Promise<boolean> {
  await lockInTransaction(transaction, "administrators");
  return (await queryRows(transaction, sql.findAdministrator)).length > 0;
}

/** A user in a list. */
export type ListedUser = Omit<UserRow, "id">;

/** Returns the query for a page. Rows with equal sort values are ordered by username. */
export function streamUsers(database: Database, selection: UserFilter, { sort, direction, offset, limit }: Page) {
  const order = [...new Set([sort, "username"])].map((column) => ({
    column: column === "roles" ? database.raw(contractRoles) : column,
    order: direction,
  }));
  return filterUsers(database, selection)
    .select(...listedColumns)
    .orderBy(order)
    .offset(offset)
    .limit(limit);
}

/** Returns the query of the selected users, to be refined. */
export function filterUsers(database: Database, { scope, filter, companyKey, group }: UserFilter) {
  const query = visible(database, scope);
  if (companyKey !== undefined) void query.where({ company_key: companyKey });
  if (filter !== undefined) void query.whereRaw("search like search_fold(?)", [toContainsPattern(filter)]);
  if (group === "ACTIVE") void query.where({ enabled: true });
  if (group === "BLOCKED") void query.where({ enabled: false });
  if (group === "ADMINS") void query.whereRaw("'ADMIN' = any (roles)");
  return query;
}

function visible(database: Database, scope: Scope) {
  const query = database<UserRow>("user_account");
  if (scope.kind === "everything") return query;
  return scope.kind === "company" ? query.where({ company_key: scope.companyKey }) : query.where({ id: scope.userId });
}

import type { Knex } from "knex";
import type { Database, Transaction } from "../../postgres/database.ts";
import { type Page, toContainsPattern } from "../../shared/pagination.ts";
import type { Scope } from "../../shared/principal.ts";

export interface CompanyRow {
  readonly key: string;
  readonly detail: string | null;
}

const columns = ["key", "detail"] as const;

/** Inserts a company. @throws a unique violation when its key is taken */
export async function insertCompany(transaction: Transaction, company: CompanyRow): Promise<void> {
  await transaction("company").insert(company);
}

/** Inserts a company without a detail where none of that key exists. */
export async function ensureCompany(transaction: Transaction, key: string): Promise<void> {
  await transaction("company").insert({ key }).onConflict("key").ignore();
}

/** Returns whether a company with this key has, or had, users. */
export async function hasCompanyHistory(transaction: Transaction, key: string): Promise<boolean> {
  return (await transaction("user_standing").first("user_id").where({ company_key: key })) !== undefined;
}

/** Finds a company. Returns undefined when the scope has no such company. */
export function findCompany(database: Database, scope: Scope, key: string): Promise<CompanyRow | undefined> {
  return visible(database, scope)
    .first(...columns)
    .where({ key });
}

/** Updates a company. Returns undefined when the scope has no such company. */
export async function updateCompany(
  transaction: Transaction,
  scope: Scope,
  { key, detail }: CompanyRow,
): Promise<CompanyRow | undefined> {
  const [row] = await visible(transaction, scope)
    .where({ key })
    .update({ detail })
    .returning([...columns]);
  return row;
}

/** Deletes a company. Returns the number of deleted rows: 0 or 1. */
export function deleteCompany(transaction: Transaction, key: string): Promise<number> {
  return transaction("company").where({ key }).delete();
}

/** Returns the query for a page. Rows with equal sort values are ordered by key. */
export function streamCompanies(
  database: Database,
  scope: Scope,
  filter: string | undefined,
  { sort, direction, offset, limit }: Page,
) {
  const order = [...new Set([sort, "key"])].map((column) => ({ column, order: direction }));
  return matching(database, scope, filter)
    .select(...columns)
    .orderBy(order)
    .offset(offset)
    .limit(limit);
}

/** Returns the number of companies in the scope. */
export async function countCompanies(database: Database, scope: Scope): Promise<number> {
  if (scope.kind !== "everything") return count(visible(database, scope));
  const row = await database("company_total").first<{ total: number }>("total");
  return row.total;
}

/** Returns the number of companies in the scope that match the filter. */
export function countMatchingCompanies(database: Database, scope: Scope, filter: string): Promise<number> {
  return count(matching(database, scope, filter));
}

async function count(query: Knex.QueryBuilder): Promise<number> {
  const [row] = await query.count({ total: "*" });
  return Number(row.total);
}

function matching(database: Database, scope: Scope, filter: string | undefined) {
  const query = visible(database, scope);
  return filter === undefined ? query : query.whereRaw("search like search_fold(?)", [toContainsPattern(filter)]);
}

function visible(database: Database, scope: Scope) {
  const query = database<CompanyRow>("company");
  if (scope.kind === "everything") return query;
  return scope.kind === "company" ? query.where({ key: scope.companyKey }) : query.where(false);
}

import type { Knex } from "knex";
import type { Database, Transaction } from "../../postgres/database.ts";
import { type Page, toContainsPattern } from "../../shared/pagination.ts";
import type { Scope } from "../../shared/principal.ts";

export interface CompanyRow {
  readonly key: string;
  readonly detail: string | null;
}

const columns = ["key", "detail"] as const;

export async function insertCompany(transaction: Transaction, company: CompanyRow): Promise<void> {
  await transaction("company").insert(company);
}

/** Whether users of a company of that key have left a history. */
export async function hasCompanyHistory(transaction: Transaction, key: string): Promise<boolean> {
  return (await transaction("user_standing").first("user_id").where({ company_key: key })) !== undefined;
}

export function findCompany(database: Database, scope: Scope, key: string): Promise<CompanyRow | undefined> {
  return visible(database, scope)
    .first(...columns)
    .where({ key });
}

/** Undefined when there is no such company in the scope. */
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

/** How many were removed: 0 or 1. */
export function deleteCompany(transaction: Transaction, key: string): Promise<number> {
  return transaction("company").where({ key }).delete();
}

/** The rows of a page, in order; the key settles what the sort field leaves open. */
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

/** How many companies the scope has. */
export async function countCompanies(database: Database, scope: Scope): Promise<number> {
  if (scope.kind !== "everything") return count(visible(database, scope));
  const row = await database("company_total").first<{ total: number }>("total");
  return row.total;
}

/** How many companies of the scope match. */
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
  return scope.kind === "company" ? query.where({ key: scope.companyKey }) : query.whereRaw("false");
}

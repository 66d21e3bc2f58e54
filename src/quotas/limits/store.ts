import type { Knex } from "knex";
import type { Database, Transaction } from "../../postgres/database.ts";
import { defineStatements, queryRows } from "../../postgres/statements.ts";
import type { Scope } from "../../shared/principal.ts";
import type { QuotaPeriod } from "./period.ts";

/** The limits of one method group. Null means no limit. 0 allows nothing. */
export interface QuotaRow {
  readonly service: string;
  readonly method_group: string;
  readonly points_per_request: number;
  readonly points_per_day: number;
  readonly points_per_date_window: number | null;
  readonly max_concurrent_execution: number | null;
}

/** A stored quota. `from` and `to` are null in the base quota. */
export interface StoredQuota extends QuotaRow {
  readonly from: string | null;
  readonly to: string | null;
}

/** The user that quotas belong to. */
export interface QuotaOwner {
  readonly id: number;
  readonly company_key: string;
}

/** Returns undefined when the scope has no such user. */
export async function findQuotaOwner(
  database: Database,
  scope: Scope,
  username: string,
): Promise<QuotaOwner | undefined> {
  return userQuery(database, scope, username);
}

/** Lists the usernames of a company in order, at most `limit`. */
export async function listCompanyUsers(database: Database, companyKey: string, limit: number): Promise<string[]> {
  const rows = await queryRows<{ username: string }>(database, sql.listCompanyUsers, [companyKey, limit]);
  return rows.map(({ username }) => username);
}

/** Finds the user and locks its quotas until the transaction ends. */
export async function lockQuotaOwner(transaction: Transaction, username: string): Promise<QuotaOwner | undefined> {
  return userQuery(transaction, { kind: "everything" }, username).forUpdate();
}

/** Replaces the base quota, or the quota of exactly this period. */
export async function replaceQuotas(
  transaction: Transaction,
  userId: number,
  period: QuotaPeriod | undefined,
  rows: readonly QuotaRow[],
): Promise<void> {
  await ofPeriod(transaction, userId, period).delete();
  if (rows.length === 0) return;
  await transaction("quota").insert(rows.map((row) => ({ ...row, user_id: userId, period: toRange(period) })));
}

/** Returns the number of deleted rows. */
export function deleteQuotaPeriod(transaction: Transaction, userId: number, period: QuotaPeriod): Promise<number> {
  return ofPeriod(transaction, userId, period).delete();
}

/** Deletes all quotas of a user. */
export async function deleteQuotas(transaction: Transaction, userId: number): Promise<void> {
  await transaction("quota").where({ user_id: userId }).delete();
}

/** Lists the base quota first, then by period, each in insertion order. */
export async function listQuotas(database: Database, userId: number): Promise<StoredQuota[]> {
  return queryRows(database, sql.listQuotas, [userId]);
}

const sql = defineStatements("limits", {
  listCompanyUsers: "select username from user_account where company_key = $1 order by username limit $2",
  listQuotas: `
    select service, method_group, points_per_request, points_per_day, points_per_date_window, max_concurrent_execution,
      lower(period)::text as "from", upper(period)::text as "to"
    from quota where user_id = $1 order by period nulls first, id`,
});

function ofPeriod(transaction: Transaction, userId: number, period: QuotaPeriod | undefined): Knex.QueryBuilder {
  return transaction("quota").where({ user_id: userId, period: toRange(period) });
}

/** Formats a daterange. Null is the base quota. */
function toRange(period: QuotaPeriod | undefined): string | null {
  return period === undefined ? null : `[${period.from},${period.to})`;
}

function userQuery(database: Database, scope: Scope, username: string) {
  const query = database<{ id: number; username: string; company_key: string }>("user_account")
    .first("id", "company_key")
    .where({ username });
  if (scope.kind === "company") void query.where({ company_key: scope.companyKey });
  if (scope.kind === "self") void query.where({ id: scope.userId });
  return query;
}

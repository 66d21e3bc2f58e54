import type { Knex } from "knex";
import type { Database, Transaction } from "../../postgres/database.ts";
import type { Scope } from "../../shared/principal.ts";
import type { QuotaPeriod } from "./period.ts";

/** The limits of one method group; null does not limit, 0 allows nothing. */
export interface QuotaRow {
  readonly service: string;
  readonly method_group: string;
  readonly points_per_request: number;
  readonly points_per_day: number;
  readonly points_per_date_window: number | null;
  readonly max_concurrent_execution: number | null;
}

/** A quota as it is read: `from` and `to` are null in the base quota. */
export interface StoredQuota extends QuotaRow {
  readonly from: string | null;
  readonly to: string | null;
}

/** The user whose quotas are meant. */
export interface QuotaOwner {
  readonly id: number;
  readonly company_key: string;
}

/** Undefined when the scope has no such user. */
export async function findQuotaOwner(
  database: Database,
  scope: Scope,
  username: string,
): Promise<QuotaOwner | undefined> {
  return userQuery(database, scope, username);
}

/** Finds the user, whose quotas no other transaction can change until this one ends. */
export async function lockQuotaOwner(transaction: Transaction, username: string): Promise<QuotaOwner | undefined> {
  return userQuery(transaction, { kind: "everything" }, username).forUpdate();
}

/** Puts these rows in the place of the base quota, or of the quota of exactly this period. */
export async function replaceQuotas(
  transaction: Transaction,
  userId: number,
  period: QuotaPeriod | undefined,
  rows: readonly QuotaRow[],
): Promise<void> {
  await ofPeriod(transaction, userId, period).delete();
  if (rows.length === 0) return;
  const range = period === undefined ? null : transaction.raw("daterange(?, ?)", [period.from, period.to]);
  await transaction("quota").insert(rows.map((row) => ({ ...row, user_id: userId, period: range })));
}

/** How many rows were removed. */
export function deleteQuotaPeriod(transaction: Transaction, userId: number, period: QuotaPeriod): Promise<number> {
  return ofPeriod(transaction, userId, period).delete();
}

export async function deleteQuotas(transaction: Transaction, userId: number): Promise<void> {
  await transaction("quota").where({ user_id: userId }).delete();
}

/** Base first, then by period, each in the order in which it was set. */
export async function listQuotas(database: Database, userId: number): Promise<StoredQuota[]> {
  return database("quota")
    .select("service", "method_group", "points_per_request", "points_per_day", "points_per_date_window")
    .select("max_concurrent_execution")
    .select(database.raw(`lower(period)::text as "from", upper(period)::text as "to"`))
    .where({ user_id: userId })
    .orderByRaw("period nulls first, id");
}

function ofPeriod(transaction: Transaction, userId: number, period: QuotaPeriod | undefined): Knex.QueryBuilder {
  const rows = transaction("quota").where({ user_id: userId });
  return period === undefined
    ? rows.whereNull("period")
    : rows.whereRaw("period = daterange(?, ?)", [period.from, period.to]);
}

function userQuery(database: Database, scope: Scope, username: string) {
  const query = database<{ id: number; username: string; company_key: string }>("user_account")
    .first("id", "company_key")
    .where({ username });
  if (scope.kind === "company") void query.where({ company_key: scope.companyKey });
  if (scope.kind === "self") void query.where({ id: scope.userId });
  return query;
}

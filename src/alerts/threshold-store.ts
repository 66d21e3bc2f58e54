import type { Database, Transaction } from "../postgres/database.ts";
import { defineStatements, executeStatement, queryRows } from "../postgres/statements.ts";

/** The user or the company whose thresholds are meant. */
export type ThresholdOwner = { readonly userId: number } | { readonly companyKey: string };

/** Thresholds that the API has set, as texts. Undefined where it has set none. */
export interface StoredThresholds {
  readonly ofUser: readonly string[] | undefined;
  readonly ofCompany: readonly string[] | undefined;
}

/** Finds the thresholds of a user and of a company. `userId` is undefined when only the company is asked for. */
export async function findThresholds(
  database: Database,
  { userId, companyKey }: { readonly userId?: number; readonly companyKey: string },
): Promise<StoredThresholds> {
  const rows = await queryRows<{ isOfUser: boolean; thresholds: string[] }>(database, sql.find, [
    userId ?? null,
    companyKey,
  ]);
  const find = (isOfUser: boolean) => rows.find((row) => row.isOfUser === isOfUser)?.thresholds;
  return { ofUser: find(true), ofCompany: find(false) };
}

/** Sets the thresholds of a user or a company, or replaces them. */
export async function putThresholds(
  transaction: Transaction,
  owner: ThresholdOwner,
  thresholds: readonly string[],
): Promise<void> {
  if ("userId" in owner) await executeStatement(transaction, sql.putOfUser, [owner.userId, thresholds]);
  else await executeStatement(transaction, sql.putOfCompany, [owner.companyKey, thresholds]);
}

/** Deletes the thresholds of a user or a company, if there are any. */
export async function deleteThresholds(transaction: Transaction, owner: ThresholdOwner): Promise<void> {
  if ("userId" in owner) await executeStatement(transaction, sql.deleteOfUser, [owner.userId]);
  else await executeStatement(transaction, sql.deleteOfCompany, [owner.companyKey]);
}

const sql = defineStatements("alert-thresholds", {
  find: `
    select user_id is not null as "isOfUser", thresholds from alert_threshold
    where user_id = $1::bigint or company_key = $2`,
  putOfUser: `
    insert into alert_threshold (user_id, thresholds) values ($1, $2::text[])
    on conflict (user_id) do update set thresholds = excluded.thresholds`,
  putOfCompany: `
    insert into alert_threshold (company_key, thresholds) values ($1, $2::text[])
    on conflict (company_key) do update set thresholds = excluded.thresholds`,
  deleteOfUser: "delete from alert_threshold where user_id = $1",
  deleteOfCompany: "delete from alert_threshold where company_key = $1",
});

import { ConnectError } from "@connectrpc/connect";
import knex from "knex";
import { internal, invalid, unavailable } from "../shared/errors.ts";

/** SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const uniqueViolation = "23505";
const foreignKeyViolation = "23503";
const exclusionViolation = "23P01";
const checkViolation = "23514";
const queryCanceled = "57014";
/** Classes and codes of a server that cannot answer now: it may later. */
const passing = /^(08...|53...|57P0.|57014|55P03|40001|40P01|25P03)$/;
const networkFaults = /^(ECONNREFUSED|ECONNRESET|ENOTFOUND|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN)$/;
/** pg gives no code when the connection ends under a query, cannot be made in time, or is used after its end. */
const connectionFaults =
  /Connection (terminated|ended)|timeout expired|Client (was closed|has encountered a connection)/;
/** Text with U+0000, too long a text, a day beyond the calendar. */
const unstorable = /^(22001|22007|22008|22021)$/;
const retryAfterMs = 1000;

/** The error as a caller may read it: what a store has not named is UNAVAILABLE or INTERNAL, never SQL. */
export function toDatabaseError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  if (isPassing(error))
    return unavailable("DATABASE_UNAVAILABLE", "the database does not answer now", retryAfterMs, error);
  if (unstorable.test(codeOf(error) ?? ""))
    return invalid({ field: "", message: "holds a value that cannot be stored" });
  return internal(error);
}

export function isUniqueViolation(error: unknown): boolean {
  return codeOf(error) === uniqueViolation;
}

export function isForeignKeyViolation(error: unknown): boolean {
  return codeOf(error) === foreignKeyViolation;
}

export function isExclusionViolation(error: unknown): boolean {
  return codeOf(error) === exclusionViolation;
}

/** Whether a statement was longer at work than it may be. */
export function isStatementTimeout(error: unknown): boolean {
  return codeOf(error) === queryCanceled;
}

/** Whether a partitioned table has no partition for a row. It names no constraint, as others of the code do. */
export function isMissingPartition(error: unknown): boolean {
  if (codeOf(error) !== checkViolation) return false;
  const { table, constraint } = error as { table?: unknown; constraint?: unknown };
  return table !== undefined && constraint === undefined;
}

function isPassing(error: unknown): boolean {
  if (error instanceof knex.KnexTimeoutError) return true;
  const code = codeOf(error);
  if (code !== undefined) return passing.test(code) || networkFaults.test(code);
  return error instanceof Error && connectionFaults.test(error.message);
}

function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

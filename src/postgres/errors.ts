import { ConnectError } from "@connectrpc/connect";
import knex from "knex";
import { internal, invalid, unavailable } from "../shared/errors.ts";

/** SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const uniqueViolation = "23505";
const foreignKeyViolation = "23503";
const exclusionViolation = "23P01";
const checkViolation = "23514";
const queryCanceled = "57014";
const lockNotAvailable = "55P03";
const deadlockDetected = "40P01";
/** Classes and codes of a server that cannot respond now, and may later. */
const transientCodes = /^(08...|53...|57P0.|57014|55P03|40001|40P01|25P03)$/;
const networkFaults = /^(ECONNREFUSED|ECONNRESET|ENOTFOUND|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN)$/;
/** pg sets no code when a connection ends during a query, takes too long to open, or is used after its end. */
const connectionFaults =
  /Connection (terminated|ended)|timeout expired|Client (was closed|has encountered a connection)/;
/** A text that holds U+0000 or is too long, or a date out of range. */
const unstorable = /^(22001|22007|22008|22021)$/;
const retryAfterMs = 1000;

/**
 * Maps an error to one that callers may see; SQL is never in its message. A ConnectError is returned unchanged. A
 * transient error of PostgreSQL becomes UNAVAILABLE, a value that it cannot store INVALID_ARGUMENT, any other INTERNAL.
 */
export function toDatabaseError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  if (isTransient(error))
    return unavailable("DATABASE_UNAVAILABLE", "the database does not respond", retryAfterMs, error);
  if (unstorable.test(codeOf(error) ?? ""))
    return invalid({ field: "", message: "the request must not hold a value that cannot be stored" });
  return internal(error);
}

/** Returns whether a row with the same key exists. */
export function isUniqueViolation(error: unknown): boolean {
  return codeOf(error) === uniqueViolation;
}

/** Returns whether a referenced row is missing, or a deleted row is referenced. */
export function isForeignKeyViolation(error: unknown): boolean {
  return codeOf(error) === foreignKeyViolation;
}

/** Returns whether a row overlaps another one that it must not overlap. */
export function isExclusionViolation(error: unknown): boolean {
  return codeOf(error) === exclusionViolation;
}

/** Returns whether a statement exceeded statement_timeout. */
export function isStatementTimeout(error: unknown): boolean {
  return codeOf(error) === queryCanceled;
}

/** Returns whether a lock was not free in time, or waiting for it was a deadlock. */
export function isLockFailure(error: unknown): boolean {
  const code = codeOf(error);
  return code === lockNotAvailable || code === deadlockDetected;
}

/**
 * Returns whether a partitioned table has no partition for a row. Other errors with this code name a constraint; this
 * one does not.
 */
export function isMissingPartition(error: unknown): boolean {
  if (codeOf(error) !== checkViolation) return false;
  const { table, constraint } = error as { table?: unknown; constraint?: unknown };
  return table !== undefined && constraint === undefined;
}

function isTransient(error: unknown): boolean {
  if (error instanceof knex.KnexTimeoutError) return true;
  const code = codeOf(error);
  if (code !== undefined) return transientCodes.test(code) || networkFaults.test(code);
  return error instanceof Error && connectionFaults.test(error.message);
}

function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

import { setTimeout as wait } from "node:timers/promises";
import type { Database } from "./database.ts";
import { defineStatements, queryRows } from "./statements.ts";

export interface CancelOptions {
  /** The pool whose connections send the cancel. */
  readonly database: Database;
  readonly signal: AbortSignal;
  /** The backend process of the connection that runs the statement. */
  readonly pid: number;
}

/** The delay before a cancel is repeated. */
const repeatMs = 500;

/**
 * Runs a statement on the caller's connection, and cancels it in PostgreSQL when the signal is aborted. Settles only when
 * the statement and the cancel have both ended, so that no cancel can hit the next statement on the connection.
 * @throws the signal's reason once it is aborted
 */
export async function cancelOnAbort<Result>(
  { database, signal, pid }: CancelOptions,
  run: () => PromiseLike<Result>,
): Promise<Result> {
  signal.throwIfAborted();
  const ended = new AbortController();
  let canceling: Promise<void> | undefined;

  async function cancel(): Promise<void> {
    // Repeated: a cancel that arrives before its statement has no effect, and one without a free connection is not sent.
    while (!ended.signal.aborted) {
      await queryRows(database, sql.cancel, [pid]).catch(() => undefined);
      await wait(repeatMs, undefined, { signal: ended.signal }).catch(() => undefined);
    }
  }

  const onAbort = () => {
    canceling = cancel();
  };
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await run();
  } finally {
    signal.removeEventListener("abort", onAbort);
    ended.abort();
    await canceling;
    // The caller gets the reason of the abort, not the error of the canceled statement.
    signal.throwIfAborted();
  }
}

const sql = defineStatements("cancel-on-abort", {
  cancel: "select pg_cancel_backend($1)",
});

import { setTimeout as wait } from "node:timers/promises";
import type { Database } from "./database.ts";

/** Where a statement runs, and what interrupts it. */
export interface Statement {
  /** The pool that the cancel goes through. */
  readonly database: Database;
  readonly signal: AbortSignal;
  /** The backend of the connection that the statement goes to. */
  readonly pid: number;
}

/** How long a statement may go on after a cancel before there is another one. */
const againMs = 500;

/**
 * Runs a statement on a connection that the caller holds, and cancels it in PostgreSQL when the signal is aborted. Ends
 * when neither the statement nor a cancel is under way any more: none can hit what runs on the connection next.
 * @throws the signal's reason once it is aborted
 */
export async function interruptible<Result>(
  { database, signal, pid }: Statement,
  run: () => PromiseLike<Result>,
): Promise<Result> {
  signal.throwIfAborted();
  const ended = new AbortController();
  let cancelled: Promise<void> | undefined;

  async function cancel(): Promise<void> {
    // Again while it goes on: a cancel that overtakes its statement is lost, and so is one for want of a connection.
    while (!ended.signal.aborted) {
      await database.raw("select pg_cancel_backend(?)", [pid]).catch(() => undefined);
      await wait(againMs, undefined, { signal: ended.signal }).catch(() => undefined);
    }
  }

  const begin = () => {
    cancelled = cancel();
  };
  signal.addEventListener("abort", begin, { once: true });
  try {
    return await run();
  } finally {
    signal.removeEventListener("abort", begin);
    ended.abort();
    await cancelled;
    // What a cancelled statement fails with is no error of its own.
    signal.throwIfAborted();
  }
}

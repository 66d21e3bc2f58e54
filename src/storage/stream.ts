import type { Knex } from "knex";
import pLimit, { type LimitFunction } from "p-limit";
import { unavailable } from "../core/errors.ts";
import type { Database, Transaction } from "./database.ts";
import { interruptible, type Statement } from "./interruptible.ts";

export interface StreamOptions {
  /** How many rows the query has at the most. */
  readonly limit: number;
  readonly signal: AbortSignal;
  /** How long a reader may take over a page. A cursor holds a connection and a snapshot: who sleeps loses it. */
  readonly readerTimeoutMs?: number;
}

const pageSize = 1000;
/** A list that no index has in order is sorted before its first page: ten million rows take longer than any call may. */
const sortTimeoutMs = 120_000;

/**
 * The rows of a query in pages, in order. A result of more than one page is read through a cursor, so that memory does
 * not grow with it, and from one snapshot.
 * @throws the signal's reason once it is aborted, and what PostgreSQL was at is cancelled; UNAVAILABLE when the reader
 * took too long over a page
 */
export async function* streamRows<Row>(
  database: Database,
  query: Knex.QueryBuilder,
  { limit, signal, readerTimeoutMs = 30_000 }: StreamOptions,
): AsyncGenerator<Row[]> {
  if (limit <= pageSize) {
    yield (await query) as Row[];
    return;
  }
  const free = await takeTurn(database, signal);
  let transaction: Transaction | undefined;
  let closed: Promise<void> | undefined;
  // The reader who is done, goes away or sleeps: whichever comes first gives the connection back, once.
  const close = () => (closed ??= end(transaction).finally(free));
  try {
    transaction = await database.transaction(undefined, { readOnly: true });
    for await (const rows of readCursor<Row>(transaction, query, { database, signal })) {
      yield* lend(rows, { signal, readerTimeoutMs, close: () => void close() });
    }
  } finally {
    await close();
  }
}

async function* readCursor<Row>(
  transaction: Transaction,
  query: Knex.QueryBuilder,
  { database, signal }: Pick<Statement, "database" | "signal">,
): AsyncGenerator<Row[]> {
  const { sql, bindings } = query.toSQL();
  const { rows: settings } = await transaction.raw<{ rows: [{ pid: number }] }>(
    `select pg_backend_pid() as pid, set_config(name, greatest(setting::bigint, ?::bigint)::text, true)
     from pg_settings where name = 'statement_timeout'`,
    [sortTimeoutMs],
  );
  const statement = { database, signal, pid: settings[0].pid };
  const declare = `declare list no scroll cursor for ${sql}`;
  await interruptible(statement, () => transaction.raw(declare, bindings as Knex.RawBinding[]));
  // FETCH is a statement of its own, so the time limit counts by page, not by list.
  for (;;) {
    const fetch = () => transaction.raw<{ rows: Row[] }>(`fetch ${pageSize} from list`);
    const { rows } = await interruptible(statement, fetch);
    if (rows.length > 0) yield rows;
    if (rows.length < pageSize) return;
  }
}

interface Loan {
  readonly signal: AbortSignal;
  readonly readerTimeoutMs: number;
  readonly close: () => void;
}

/** Waits while the reader has the rows. A reader who does not come back closes the cursor all the same. */
async function* lend<Row>(rows: Row[], { signal, readerTimeoutMs, close }: Loan): AsyncGenerator<Row[]> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    close();
  }, readerTimeoutMs);
  signal.addEventListener("abort", close, { once: true });
  try {
    yield rows;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", close);
  }
  signal.throwIfAborted();
  if (late) throw unavailable("the list was read too slowly", 1000);
}

async function end(transaction: Transaction | undefined): Promise<void> {
  // A cursor has changed nothing; a rollback also ends a transaction that the server gave up.
  await transaction?.rollback().catch(() => undefined);
}

/** Who holds connections for long, and which part of them: the slow of one kind do not keep the other waiting. */
const parts = { readers: 1 / 2, uploads: 1 / 4 };
const turns = {
  readers: new WeakMap<Database, LimitFunction>(),
  uploads: new WeakMap<Database, LimitFunction>(),
};

/**
 * Waits for a turn to hold a connection for long: slow callers leave the others to everybody else.
 * @returns what gives the turn back
 */
export async function takeTurn(
  database: Database,
  signal: AbortSignal,
  kind: keyof typeof parts = "readers",
): Promise<() => void> {
  signal.throwIfAborted();
  const { max } = database.client.pool as { max: number };
  const turn = turns[kind].get(database) ?? pLimit(Math.max(1, Math.floor(max * parts[kind])));
  turns[kind].set(database, turn);
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason as Error);
    signal.addEventListener("abort", leave, { once: true });
    // A turn that comes after its reader has left ends at once.
    void turn(async () => {
      signal.removeEventListener("abort", leave);
      if (!signal.aborted) await new Promise<void>((free) => resolve(free));
    });
  });
}

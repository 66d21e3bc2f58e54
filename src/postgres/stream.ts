import type { Knex } from "knex";
import type { QueryResultRow } from "pg";
import { unavailable } from "../shared/errors.ts";
import { createTransferDeadline, type TransferDeadline } from "../shared/transfer-deadline.ts";
import { acquireBulkSlot } from "./bulk-slots.ts";
import { type Database, queryOf, readRows, type Transaction } from "./database.ts";
import { interruptible, type Statement } from "./interruptible.ts";

export interface StreamOptions {
  /** How many rows the query passes over. */
  readonly offset: number;
  /** How many rows it has at the most. */
  readonly limit: number;
  readonly signal: AbortSignal;
  readonly pace?: ReaderPace;
}

/** A cursor holds a connection and a snapshot: who sleeps loses it, and so does who is slow at every page. */
export interface ReaderPace {
  /** How far the reader may fall behind. */
  readonly slackMs: number;
  /** How long a page may take if all of them do. */
  readonly pageMs: number;
}

const pageSize = 1000;
/**
 * How far in a page may end to be read by a plain query, in the time of one. PostgreSQL sorts for the first ten thousand
 * rows in memory, by one scan, as fast as for the first twenty (measured over two million); from some ten thousands on it
 * sorts all of them, on disk. So who leafs through pages takes no turn and does not wait for slow readers; who jumps far
 * takes one, since such sorts must not take all connections, and gives it back when the page is there.
 */
const plainDepth = 10_000;
/** 500 rows a second, some 2 Mbit/s: ten million rows are read within hours by the slowest, and in minutes by most. */
const ordinaryPace: ReaderPace = { slackMs: 30_000, pageMs: 2000 };
/** A list that no index has in order is sorted before its first page: ten million rows take longer than any call may. */
const sortTimeoutMs = 120_000;

/**
 * The rows of a query in pages, in order. A result of more than one page, or far in, is read through a cursor, which has
 * the time of a sort: from one snapshot, and memory does not grow with it.
 * @throws the signal's reason once it is aborted, and what PostgreSQL was at is cancelled; UNAVAILABLE when there is no
 * turn, or the reader is too slow
 */
export async function* streamRows<Row extends QueryResultRow>(
  database: Database,
  query: Knex.QueryBuilder,
  { offset, limit, signal, pace = ordinaryPace }: StreamOptions,
): AsyncGenerator<Row[]> {
  if (limit <= pageSize && offset + limit <= plainDepth) {
    yield await readRows<Row>(database, queryOf(query));
    return;
  }
  const free = await acquireBulkSlot(database, { kind: "readers", signal });
  const transferDeadline = createTransferDeadline(pace.slackMs);
  let left = limit;
  let transaction: Transaction | undefined;
  let closed: Promise<void> | undefined;
  // The reader who is done, goes away or sleeps: whichever comes first gives the connection back, once.
  const close = () => (closed ??= end(transaction).finally(free));
  try {
    transaction = await database.transaction(undefined, { readOnly: true });
    for await (const rows of readCursor<Row>(transaction, query, { database, signal })) {
      left -= rows.length;
      if (rows.length < pageSize || left <= 0) {
        // All rows are there: no reader holds a connection for them.
        await close();
        yield rows;
        return;
      }
      yield* lend(rows, { signal, transferDeadline, pageMs: pace.pageMs, close: () => void close() });
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
  readonly transferDeadline: TransferDeadline;
  readonly pageMs: number;
  readonly close: () => void;
}

/** Waits while the reader has the rows. A reader who does not come back closes the cursor all the same. */
async function* lend<Row>(rows: Row[], { signal, transferDeadline, pageMs, close }: Loan): AsyncGenerator<Row[]> {
  let late = false;
  const began = performance.now();
  const timer = setTimeout(() => {
    late = true;
    close();
  }, transferDeadline.leftMs);
  signal.addEventListener("abort", close, { once: true });
  try {
    yield rows;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", close);
  }
  transferDeadline.spend(performance.now() - began, pageMs);
  signal.throwIfAborted();
  if (late) throw unavailable("READER_TOO_SLOW", "the list was read too slowly", 1000);
}

async function end(transaction: Transaction | undefined): Promise<void> {
  // A cursor has changed nothing; a rollback also ends a transaction that the server gave up.
  await transaction?.rollback().catch(() => undefined);
}

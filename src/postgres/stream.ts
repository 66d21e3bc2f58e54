import type { Knex } from "knex";
import type { QueryResultRow } from "pg";
import { inBulkPieces } from "../shared/bulk-work.ts";
import { unavailable } from "../shared/errors.ts";
import { createTransferDeadline, type TransferDeadline } from "../shared/transfer-deadline.ts";
import { acquireBulkSlot } from "./bulk-slots.ts";
import { type CancelOptions, cancelOnAbort } from "./cancel-on-abort.ts";
import type { Database, Transaction } from "./database.ts";
import { defineStatements, queryBuilt, queryRows, queryText } from "./statements.ts";

export interface StreamOptions {
  /** The offset of the query. */
  readonly offset: number;
  /** The limit of the query. */
  readonly limit: number;
  readonly signal: AbortSignal;
  readonly pace?: ReaderPace;
}

/** A cursor holds a connection and a snapshot. A reader that stalls or stays below the minimum rate loses its cursor. */
export interface ReaderPace {
  /** How far the reader may fall behind the minimum rate, over the whole list. */
  readonly slackMs: number;
  /** Time per page at the minimum rate. */
  readonly pageMs: number;
}

const pageSize = 1000;
/**
 * A single page that ends before this row is read by a plain query. PostgreSQL sorts the first ten thousand rows in memory
 * in one scan, as fast as the first twenty (measured over two million rows). Further in, it sorts all rows on disk. So a
 * caller that reads early pages needs no bulk slot and does not wait for slow readers. A page further in needs one while
 * it is read: such sorts must not take all connections.
 */
const plainDepth = 10_000;
/** The minimum rate is 500 rows a second, about 2 Mbit/s: the slowest reader gets ten million rows within hours. */
const ordinaryPace: ReaderPace = { slackMs: 30_000, pageMs: 2000 };
/** A list without a matching index is sorted before its first page: ten million rows exceed statement_timeout. */
const sortTimeoutMs = 120_000;

/**
 * Yields the rows of a query in order. A result of more than one page, or a page far in, is read through a cursor: from one
 * snapshot, in constant memory, and with the timeout of a sort. A single page arrives whole; several pages arrive in small
 * pieces, and the event loop handles other calls before each.
 * @throws the signal's reason once it is aborted, after the running statement is canceled; UNAVAILABLE when no bulk slot
 * is free, or the reader is too slow
 */
export async function* streamRows<Row extends QueryResultRow>(
  database: Database,
  query: Knex.QueryBuilder,
  { offset, limit, signal, pace = ordinaryPace }: StreamOptions,
): AsyncGenerator<Row[]> {
  if (isSinglePage({ offset, limit })) {
    yield await queryBuilt<Row>(database, query);
    return;
  }
  const releaseSlot = await acquireBulkSlot(database, { kind: "readers", signal });
  const transferDeadline = createTransferDeadline(pace.slackMs);
  let left = limit;
  let isFirst = true;
  let transaction: Transaction | undefined;
  let closed: Promise<void> | undefined;
  // The statement in progress. A cancel request may be on its way to it.
  const running: Running = { statement: undefined };
  // Closes once, when the reader finishes, disconnects or stalls.
  const close = () => (closed ??= rollBack(transaction, running).finally(releaseSlot));
  try {
    transaction = await database.transaction(undefined, { readOnly: true });
    for await (const rows of readCursor<Row>(transaction, query, { database, signal, running })) {
      left -= rows.length;
      if (rows.length < pageSize || left <= 0) {
        // The last page is in memory: release the connection before the reader takes it.
        await close();
        if (isFirst) yield rows;
        else yield* inBulkPieces(rows);
        return;
      }
      isFirst = false;
      yield* yieldPage(rows, { signal, transferDeadline, pageMs: pace.pageMs, close: () => void close() });
    }
  } finally {
    await close();
  }
}

/** Whether a list is one page near the start, which a plain query reads. */
export function isSinglePage({ offset, limit }: Pick<StreamOptions, "offset" | "limit">): boolean {
  return limit <= pageSize && offset + limit <= plainDepth;
}

interface Running {
  statement: Promise<unknown> | undefined;
}

/** Yields the pages of a cursor. PostgreSQL makes the next page while the reader takes the last one. */
async function* readCursor<Row>(
  transaction: Transaction,
  query: Knex.QueryBuilder,
  { database, signal, running }: Pick<CancelOptions, "database" | "signal"> & { readonly running: Running },
): AsyncGenerator<Row[]> {
  const { sql: text, bindings } = query.toSQL().toNative();
  const [settings] = await queryRows<{ pid: number }>(transaction, sql.raiseTimeout, [sortTimeoutMs]);
  if (settings === undefined) throw new Error("PostgreSQL has no setting statement_timeout");
  const options = { database, signal, pid: settings.pid };
  await cancelOnAbort(options, () => queryText(transaction, `declare list no scroll cursor for ${text}`, bindings));
  // Each FETCH is a statement, so the timeout applies to a page, not to the list.
  const fetchPage = () => {
    const page = cancelOnAbort(options, () => queryText<Row>(transaction, `fetch ${pageSize} from list`));
    running.statement = page.catch(() => undefined);
    return page;
  };
  let next = fetchPage();
  for (;;) {
    const rows = await next;
    const isLast = rows.length < pageSize;
    if (!isLast) next = fetchPage();
    if (rows.length > 0) yield rows;
    if (isLast) return;
  }
}

const sql = defineStatements("stream", {
  raiseTimeout: `
    select pg_backend_pid() as pid, set_config(name, greatest(setting::bigint, $1::bigint)::text, true)
    from pg_settings where name = 'statement_timeout'`,
});

interface PageOptions {
  readonly signal: AbortSignal;
  readonly transferDeadline: TransferDeadline;
  readonly pageMs: number;
  readonly close: () => void;
}

/**
 * Yields a page in pieces. Closes the cursor when the reader takes too long, even if the reader never resumes. The pauses
 * before the pieces are the server's own time.
 */
async function* yieldPage<Row>(
  rows: Row[],
  { signal, transferDeadline, pageMs, close }: PageOptions,
): AsyncGenerator<Row[]> {
  let isLate = false;
  let timer: NodeJS.Timeout | undefined;
  const onLate = () => {
    isLate = true;
    close();
  };
  signal.addEventListener("abort", close, { once: true });
  try {
    for await (const piece of inBulkPieces(rows)) {
      const sentMs = performance.now();
      timer = setTimeout(onLate, transferDeadline.leftMs);
      yield piece;
      clearTimeout(timer);
      signal.throwIfAborted();
      if (isLate) throw unavailable("READER_TOO_SLOW", "the list was read too slowly", 1000);
      transferDeadline.spend(performance.now() - sentMs, (pageMs * piece.length) / pageSize);
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", close);
  }
}

async function rollBack(transaction: Transaction | undefined, running: Running): Promise<void> {
  // Another call gets the connection next: no cancel request may reach it.
  await running.statement;
  // The transaction has changed nothing. A rollback also ends one that PostgreSQL has aborted.
  await transaction?.rollback().catch(() => undefined);
}

import type { Knex } from "knex";
import pLimit, { type LimitFunction } from "p-limit";
import { unavailable } from "../core/errors.ts";
import type { Database, Transaction } from "./database.ts";

export interface StreamOptions {
  /** How many rows the query has at the most. */
  readonly limit: number;
  readonly signal: AbortSignal;
}

const pageSize = 1000;
/** How long a reader may take over a page. A cursor holds a connection and a snapshot: a reader who sleeps loses it. */
const readerTimeoutMs = 30_000;

/**
 * The rows of a query in pages, in order. A result of more than one page is read through a cursor, so that memory does
 * not grow with it, and from one snapshot.
 */
export async function* streamRows<Row>(
  database: Database,
  query: Knex.QueryBuilder,
  { limit, signal }: StreamOptions,
): AsyncGenerator<Row[]> {
  if (limit <= pageSize) {
    yield (await query) as Row[];
    return;
  }
  const free = await takeTurn(database, signal);
  let transaction: Transaction | undefined;
  try {
    transaction = await database.transaction();
    yield* readCursor<Row>(transaction, query, signal);
  } finally {
    // A cursor has changed nothing; a rollback also ends a transaction that the server gave up.
    await transaction?.rollback().catch(() => undefined);
    free();
  }
}

async function* readCursor<Row>(
  transaction: Transaction,
  query: Knex.QueryBuilder,
  signal: AbortSignal,
): AsyncGenerator<Row[]> {
  const { sql, bindings } = query.toSQL();
  await transaction.raw(`declare list no scroll cursor for ${sql}`, bindings as Knex.RawBinding[]);
  // FETCH is a statement of its own, so the statement's time limit counts by page, not by list.
  for (;;) {
    const { rows } = await transaction.raw<{ rows: Row[] }>(`fetch ${pageSize} from list`);
    if (rows.length > 0) yield* inTime(rows);
    signal.throwIfAborted();
    if (rows.length < pageSize) return;
  }

  async function* inTime(rows: Row[]): AsyncGenerator<Row[]> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      // Frees the connection now; the reader is told when it comes back.
      void transaction.rollback().catch(() => undefined);
    }, readerTimeoutMs);
    yield rows;
    clearTimeout(timer);
    if (late) throw unavailable("the list was read too slowly", 1000);
  }
}

const turns = new WeakMap<Database, LimitFunction>();

/** At most half of the connections stream at once: slow readers leave the others to everybody else. */
async function takeTurn(database: Database, signal: AbortSignal): Promise<() => void> {
  const { max } = database.client.pool as { max: number };
  const turn = turns.get(database) ?? pLimit(Math.max(1, Math.floor(max / 2)));
  turns.set(database, turn);
  return new Promise((resolve, reject) => {
    void turn(
      () =>
        new Promise<void>((free) => {
          if (signal.aborted) {
            free();
            reject(signal.reason as Error);
          } else resolve(free);
        }),
    );
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
}

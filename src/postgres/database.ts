import knex, { type Knex } from "knex";
import pg from "pg";
import { idleInTransactionTimeoutMs } from "../config.ts";
import { createRoundTrips, type RoundTrips } from "../shared/measures.ts";
import { measureQueries, traceQueries } from "./observe-queries.ts";
import { closeWhenSilent, isBackendActive } from "./silent-connections.ts";

export type Database = Knex;
export type Transaction = Knex.Transaction;

export interface DatabaseOptions {
  /** postgres://user:password@host:port/name */
  readonly url: string;
  readonly poolSize: number;
  /** How long a statement may run. A wait for a lock may take half of it. */
  readonly statementTimeoutMs: number;
  /** Counts the queries. */
  readonly roundTrips?: RoundTrips;
}

/** The connections of a pool. */
export interface PoolUse {
  readonly used: number;
  readonly free: number;
  readonly max: number;
  /** Callers that wait for a connection. */
  readonly waiting: number;
}

/** How long a call waits for a free connection before it is UNAVAILABLE. */
const acquireTimeoutMs = 5000;
/** How long an answer may be on its way. */
const answerMs = 1000;

/** Opens a pool. Connects at the first query, not before. */
export function openDatabase({
  url,
  poolSize,
  statementTimeoutMs,
  roundTrips = createRoundTrips(),
}: DatabaseOptions): Database {
  const connection = {
    connectionString: url,
    application_name: "tollgate",
    connectionTimeoutMillis: acquireTimeoutMs,
    keepAlive: true,
    types: { getTypeParser },
  };
  const sessionSettings = {
    statement_timeout: statementTimeoutMs,
    lock_timeout: Math.ceil(statementTimeoutMs / 2),
    idle_in_transaction_session_timeout: idleInTransactionTimeoutMs,
    // Workers take longer to start than nearly every call takes, and a few long calls would take all cores.
    max_parallel_workers_per_gather: 0,
  };
  // PostgreSQL ends a statement by itself before.
  const silenceMs = statementTimeoutMs + answerMs;
  return knex({
    client: "pg",
    connection,
    pool: {
      min: 0,
      max: poolSize,
      afterCreate(client: pg.Client, done: (error: Error | null, client: pg.Client) => void) {
        closeWhenSilent(client, { limitMs: silenceMs, isRunning: (processId) => isBackendActive(url, processId) });
        prepareSession(client, sessionSettings, (error) => {
          if (error !== null) return client.end(() => done(error, client));
          measureQueries(client, roundTrips);
          traceQueries(client);
          done(null, client);
        });
      },
    },
    acquireConnectionTimeout: acquireTimeoutMs,
    // The error of a failed statement is logged: with its parameters, it would hold hashes of passwords and what callers sent.
    compileSqlOnError: false,
    // Knex would print lines of its own between those of the log. The error of the failed call has the same text.
    log: { warn: () => undefined },
  });
}

/** Sets a new session up by a statement: PgBouncer refuses these settings as parameters of a connection. */
function prepareSession(
  client: pg.Client,
  settings: Readonly<Record<string, number>>,
  done: (error: Error | null) => void,
): void {
  const text = `select pg_backend_pid() as pid, set_config(name, value, false)
    from unnest($1::text[], $2::text[]) as wanted (name, value)`;
  const values = [Object.keys(settings), Object.values(settings).map(String)];
  client.query<{ pid: number }>(text, values, (error: Error | null, result) => {
    // A pooler reports a number of its own as the process id.
    if (error === null) Object.assign(client, { processID: result.rows[0]?.pid });
    done(error);
  });
}

/** Returns the present use of the pool. A closed pool has no connections. */
export function poolUseOf(database: Database): PoolUse {
  const pool = (database.client as Knex.Client).pool as unknown as TarnPool | undefined;
  if (pool === undefined) return { used: 0, free: 0, max: 0, waiting: 0 };
  return { used: pool.numUsed(), free: pool.numFree(), max: pool.max, waiting: pool.numPendingAcquires() };
}

/** The pool of Knex, which has no type. */
interface TarnPool {
  readonly max: number;
  numUsed(): number;
  numFree(): number;
  numPendingAcquires(): number;
}

/** Runs work on a connection that is closed afterwards, so that its settings and session locks end with it. */
export async function withOwnConnection<Result>(
  database: Database,
  work: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  const pool = database.client as Knex.Client;
  const client = (await pool.acquireConnection()) as pg.Client;
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => undefined);
    await pool.releaseConnection(client);
  }
}

/** How often a transaction is tried that conflicts with others. */
const attempts = 4;
const serializationFailure = "40001";
const deadlockDetected = "40P01";

/**
 * Runs the work in one transaction. The work may run again from its beginning after a deadlock or a serialization
 * failure, so it does nothing but database work.
 */
export async function inTransaction<Result>(
  database: Database,
  work: (transaction: Transaction) => Promise<Result>,
): Promise<Result> {
  return retryConflicts(() => database.transaction(work));
}

/** Runs a transaction, or a statement that is one. It runs again after a deadlock or a serialization failure. */
export async function retryConflicts<Result>(work: () => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      const { code } = error as { code?: unknown };
      const isConflict = code === serializationFailure || code === deadlockDetected;
      if (!isConflict || attempt === attempts) throw error;
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20 * attempt));
    }
  }
}

const { builtins } = pg.types;
/** The type text[], which pg does not name. */
const textArray = 1009 as number;
const parseAnyTextArray = pg.types.getTypeParser(textArray, "text") as (text: string) => unknown;

/** Days stay as they are written: a Date would move them by the server's timezone. 64-bit numbers are numbers. */
function getTypeParser(oid: number, format: string): (text: string) => unknown {
  if (oid === builtins.DATE) return (text: string) => text;
  if (oid === builtins.INT8) return toSafeInteger;
  if (oid === textArray) return parseTextArray;
  return pg.types.getTypeParser(oid, format as "text");
}

function toSafeInteger(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number)) throw new Error(`a number of the database is beyond 2^53: ${text}`);
  return number;
}

/** pg's parser creates an object for each character. Most arrays need none: PostgreSQL quotes all texts but plain words. */
function parseTextArray(text: string): unknown {
  const isPlain = text !== "{}" && !text.includes('"') && !text.includes("NULL") && text.lastIndexOf("{") === 0;
  if (!isPlain) return parseAnyTextArray(text);
  const words = text.slice(1, -1);
  // Most users have one role, and split takes longer than all the rest.
  return words.includes(",") ? words.split(",") : [words];
}

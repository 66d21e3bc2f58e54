import type { Knex } from "knex";
import type pg from "pg";
import type { Database, Transaction } from "./database.ts";

/** SQL whose text never changes. `$1` is its first parameter. */
export interface Statement {
  /** `store.statement`: unique in the process. */
  readonly name: string;
  readonly text: string;
  /** Whether PostgreSQL parses and plans it once per connection. Otherwise it is planned at every call, with the values. */
  readonly keepsPlan: boolean;
}

interface KeptPlan {
  readonly text: string;
  readonly keepsPlan: true;
}

const statementsByStore = new Map<string, readonly Statement[]>();

/**
 * Defines the constant statements of a store. They are listed in gen/sql.
 * @throws Error when the store is defined twice
 */
export function defineStatements<Name extends string>(
  store: string,
  texts: Readonly<Record<Name, string | KeptPlan>>,
): Readonly<Record<Name, Statement>> {
  if (statementsByStore.has(store)) throw new Error(`the statements of ${store} are defined twice`);
  const named = Object.entries<string | KeptPlan>(texts).map(([key, sql]): [string, Statement] => {
    const { text, keepsPlan } = typeof sql === "string" ? { text: sql, keepsPlan: false } : sql;
    return [key, { name: `${store}.${key}`, text, keepsPlan }];
  });
  statementsByStore.set(
    store,
    named.map(([, statement]) => statement),
  );
  return Object.fromEntries(named) as Record<Name, Statement>;
}

/**
 * Marks a statement that runs often and whose best plan is the same for all values. A statement that reads partitions by
 * day is not one: a kept plan locks all partitions.
 */
export function keepPlan(text: string): KeptPlan {
  return { text, keepsPlan: true };
}

/** Returns the statements of all loaded stores, in the order of definition. */
export function listStatements(): ReadonlyMap<string, readonly Statement[]> {
  return statementsByStore;
}

/** Runs a statement on a transaction, or on a connection of the pool. Returns its rows. */
export async function queryRows<Row>(
  on: Database | Transaction,
  { name, text, keepsPlan }: Statement,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  return (await send(on, keepsPlan ? { name, text, values } : { text, values })).rows as Row[];
}

/** Runs a statement. Returns the number of rows that it changed. */
export async function executeStatement(
  on: Database | Transaction,
  { name, text, keepsPlan }: Statement,
  values: readonly unknown[] = [],
): Promise<number> {
  return (await send(on, keepsPlan ? { name, text, values } : { text, values })).rowCount ?? 0;
}

/** Runs a query of Knex's builder without Knex's runner, which takes longer than a short query. Returns its rows. */
export async function queryBuilt<Row>(on: Database | Transaction, builder: Knex.QueryBuilder): Promise<Row[]> {
  const { sql, bindings } = builder.toSQL().toNative();
  return queryText(on, sql, bindings);
}

/** Runs a text that is made at run time: DDL, a cursor, a setting. For src/postgres alone. Returns its rows. */
export async function queryText<Row>(
  on: Database | Transaction,
  text: string,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  return (await send(on, { text, values })).rows as Row[];
}

/** Checks that PostgreSQL answers. */
export async function checkConnection(database: Database): Promise<void> {
  await queryRows(database, sql.check);
}

const sql = defineStatements("connection", { check: "select 1" });

interface Query {
  readonly name?: string;
  readonly text: string;
  readonly values: readonly unknown[];
}

async function send(on: Database | Transaction, query: Query): Promise<pg.QueryResult> {
  // The connection of a transaction that has ended serves other callers.
  if (on.isTransaction === true && (on as Transaction).isCompleted()) throw new Error("the transaction has ended");
  const client = on.client as Knex.Client;
  const connection = (await client.acquireConnection()) as pg.Client;
  try {
    return await new Promise((resolve, reject) => {
      connection.query(query as pg.QueryConfig<unknown[]>, (error: Error | null, result: pg.QueryResult) => {
        if (error === null) resolve(result);
        // Knex writes errors in the same form, so the log shows which statement failed.
        else reject(Object.assign(error, { message: `${query.text} - ${error.message}` }));
      });
    });
  } finally {
    await client.releaseConnection(connection);
  }
}

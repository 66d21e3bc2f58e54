import { randomBytes } from "node:crypto";
import pg from "pg";
import { inject } from "vitest";
import { type Database, openDatabase } from "../../src/storage/database.ts";

export interface TestDatabase {
  readonly url: string;
  readonly database: Database;
  /** Closes the pool and removes the database, whoever else is connected to it. */
  drop(): Promise<void>;
}

export interface TestDatabaseOptions {
  readonly poolSize?: number;
  readonly statementTimeoutMs?: number;
}

/** A database of one's own, migrated and empty: a clone of the run's template. */
export async function createTestDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const { url: serverUrl, template } = inject("postgres");
  const name = `${template}_${randomBytes(6).toString("hex")}`;
  await administer(serverUrl, `create database ${name} template ${template}`);
  const url = withName(serverUrl, name);
  const database = openDatabase({ url, poolSize: 10, statementTimeoutMs: 10_000, ...options });
  return {
    url,
    database,
    drop: async () => {
      await database.destroy();
      await administer(serverUrl, `drop database ${name} with (force)`);
    },
  };
}

/** As createTestDatabase, with nothing in it: not even migrations. */
export async function createEmptyDatabase(): Promise<TestDatabase> {
  throw new Error("todo");
}

function withName(serverUrl: string, name: string): string {
  const url = new URL(serverUrl);
  url.pathname = name;
  return url.href;
}

async function administer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

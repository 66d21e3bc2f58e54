import { randomBytes } from "node:crypto";
import pg from "pg";
import { inject } from "vitest";
import { type Database, openDatabase } from "../../src/postgres/database.ts";

export interface TestDatabase {
  readonly url: string;
  readonly database: Database;
  /** Closes the pool and drops the database, even while other clients are connected. */
  drop(): Promise<void>;
}

export interface TestDatabaseOptions {
  readonly poolSize?: number;
  readonly statementTimeoutMs?: number;
  /** Whether the database is empty, without even the tables. */
  readonly empty?: boolean;
}

/** Creates a migrated database without rows: a clone of the run's template. */
export async function createTestDatabase({
  poolSize = 10,
  statementTimeoutMs = 10_000,
  empty = false,
}: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const { url: serverUrl, template } = inject("postgres");
  const name = `${template}_${randomBytes(6).toString("hex")}`;
  // Copying the files takes a third of the time that copying through the log takes.
  await administer(serverUrl, `create database ${name} template ${empty ? "template0" : template} strategy file_copy`);
  const url = withName(serverUrl, name);
  const database = openDatabase({ url, poolSize, statementTimeoutMs });
  return {
    url,
    database,
    drop: async () => {
      await database.destroy();
      await administer(serverUrl, `drop database ${name} with (force)`);
    },
  };
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

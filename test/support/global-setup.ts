import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { TestProject } from "vitest/node";
import { openDatabase } from "../../src/postgres/database.ts";
import { startEmbedded } from "../../src/postgres/embedded/embedded.ts";
import { migrate } from "../../src/postgres/migrate.ts";

declare module "vitest" {
  export interface ProvidedContext {
    readonly postgres: TestServer;
  }
}

/** The PostgreSQL server of a run. */
export interface TestServer {
  /** A database from which others are made and dropped. */
  readonly url: string;
  /** The migrated database that tests clone. Every clone's name begins with it. */
  readonly template: string;
}

/** Safe to lose: no test takes the machine's power away. */
const fastSettings = {
  fsync: "off",
  synchronous_commit: "off",
  full_page_writes: "off",
  autovacuum: "off",
  max_connections: "300",
};

/** Starts one PostgreSQL for the run, or takes the one of TEST_DATABASE_URL, and migrates the template. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env["TEST_DATABASE_URL"] ?? "";
  const server = given === "" ? await startServer() : { url: given, stop: async () => undefined };
  const template = `tollgate_test_${randomBytes(4).toString("hex")}`;
  await makeTemplate(server.url, template);
  project.provide("postgres", { url: server.url, template });
  return async () => {
    await dropAll(server.url, template);
    await server.stop();
  };
}

async function startServer() {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-test-"));
  // When root runs the tests, PostgreSQL runs as another user, which must be able to enter this folder.
  await chmod(folder, 0o711);
  const server = await startEmbedded({
    folder,
    settings: fastSettings,
    onExit: () => process.stderr.write("the PostgreSQL of the tests exited\n"),
  });
  const guard = guardAgainstKill(folder);
  const stop = async () => {
    await server.stop();
    await rm(folder, { recursive: true });
    guard.kill();
  };
  return { url: server.superuserUrl, stop };
}

/** Cleans up after a killed run: its pipe to this shell closes, and the shell stops PostgreSQL. */
function guardAgainstKill(folder: string): ChildProcess {
  const script = `
    cat
    postmaster=$(head -n 1 "$0/postgres/postmaster.pid")
    kill -QUIT "$postmaster"
    while kill -0 "$postmaster"; do sleep 0.1; done
    rm -rf "$0"`;
  return spawn("sh", ["-c", script, folder], { stdio: ["pipe", "ignore", "ignore"], detached: true });
}

async function makeTemplate(serverUrl: string, template: string): Promise<void> {
  await administer(serverUrl, (client) => client.query(`create database ${template}`));
  const url = new URL(serverUrl);
  url.pathname = template;
  const database = openDatabase({ url: url.href, poolSize: 2, statementTimeoutMs: 60_000 });
  await migrate(database);
  await database.destroy();
  // A template with an open connection cannot be cloned.
  await administer(serverUrl, (client) => client.query(`alter database ${template} allow_connections false`));
}

/** Drops the template and its clones, including those of interrupted tests. */
async function dropAll(serverUrl: string, template: string): Promise<void> {
  await administer(serverUrl, async (client) => {
    const names = "select datname as name from pg_database where starts_with(datname, $1)";
    const { rows } = await client.query<{ name: string }>(names, [template]);
    for (const { name } of rows) await client.query(`drop database ${name} with (force)`);
  });
}

async function administer(url: string, work: (client: pg.Client) => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}

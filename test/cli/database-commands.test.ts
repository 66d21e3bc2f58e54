import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDatabase } from "../../src/postgres/database.ts";
import { runCommand } from "../support/command-line.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let fixture: TestDatabase;
beforeAll(async () => {
  fixture = await createTestDatabase({ empty: true });
});
afterAll(() => fixture.drop());

function run(words: readonly string[], settings: Record<string, string> = {}) {
  const environment = { DATABASE_URL: fixture.url, TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough", ...settings };
  return runCommand(words, { environment });
}

const findings = async (settings: Record<string, string> = {}) => {
  const { code, stdout } = await run(["doctor", "--json"], settings);
  const rows = stdout.trim().split("\n");
  return { code, rows: rows.map((row): Record<string, string> => JSON.parse(row)) };
};

test("doctor finds a database without tables, and migrate makes them once", async () => {
  const before = await findings();
  expect(before.code).toBe(1);
  expect(before.rows).toContainEqual({
    check: "postgres tables",
    state: "problem",
    detail: expect.stringMatching(/tollgate migrate/),
  });
  const { code, stdout } = await run(["migrate"]);
  expect([code, stdout]).toEqual([0, expect.stringMatching(/^MIGRATION\n0001_accounts\.sql\n/)]);
  expect(await run(["migrate"])).toEqual({ code: 0, stdout: "", stderr: "the database is up to date\n" });
  expect((await findings()).rows).toContainEqual({ check: "postgres tables", state: "ok", detail: "present" });
});

test("doctor finds a locale that folds ASCII letters only, and a server without an extension", async () => {
  expect((await findings()).rows).toEqual(
    expect.arrayContaining([
      { check: "postgres locale", state: "ok", detail: "knows the case of all letters" },
      { check: "postgres extensions", state: "ok", detail: "pg_trgm and btree_gist are available" },
    ]),
  );
  const name = new URL(fixture.url).pathname.slice(1);
  await fixture.database.raw(`create database ${name}_c template template0 locale 'C' locale_provider libc`);
  await fixture.database.raw(`alter database ${name}_c set search_path = public, pg_catalog`);
  const url = `${fixture.url}_c`;
  const database = openDatabase({ url, poolSize: 1, statementTimeoutMs: 10_000 });
  try {
    // Hides an extension: the view of the catalog is searched after this one.
    await database.raw(
      "create view pg_available_extensions as select * from pg_catalog.pg_available_extensions where name <> 'btree_gist'",
    );
    expect((await findings({ DATABASE_URL: url })).rows).toEqual(
      expect.arrayContaining([
        { check: "postgres locale", state: "problem", detail: expect.stringMatching(/ASCII letters only: create/) },
        {
          check: "postgres extensions",
          state: "problem",
          detail: expect.stringMatching(/^missing: btree_gist: install/),
        },
      ]),
    );
  } finally {
    await database.destroy();
    await fixture.database.raw(`drop database ${name}_c with (force)`);
  }
});

test("doctor names each setting that cannot be read, and says what to do", async () => {
  const { code, rows } = await findings({ PORT: "many" });
  expect(code).toBe(1);
  expect(rows).toContainEqual({ check: "settings", state: "problem", detail: expect.stringMatching(/PORT/) });
});

test("doctor reports a Redis that does not answer", async () => {
  const { code, rows } = await findings({ REDIS_URL: "redis://127.0.0.1:1" });
  expect(code).toBe(1);
  expect(rows).toContainEqual({ check: "redis", state: "problem", detail: expect.stringMatching(/\S/) });
});

test("a reader that closes the pipe ends the command quietly", async () => {
  const script = "node --import tsx src/cli/tollgate.ts --help | head -1; exit ${PIPESTATUS[0]}";
  const child = spawn("bash", ["-c", script], { env: process.env });
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "Usage: tollgate COMMAND [OPTION ...]\n", stderr: "" });
});

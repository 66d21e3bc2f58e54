import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openDatabase } from "../../src/postgres/database.ts";
import { migrate } from "../../src/postgres/migrate.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let test: TestDatabase;
let folder: string;

beforeEach(async () => {
  test = await createTestDatabase({ empty: true });
  folder = await mkdtemp(join(tmpdir(), "tollgate-migrations-"));
});

afterEach(async () => {
  await test.drop();
  await rm(folder, { recursive: true });
});

/** Migrates to these files alone. */
async function migrateTo(files: Record<string, string>): Promise<void> {
  for (const [name, sql] of Object.entries(files)) await writeFile(join(folder, name), sql);
  await migrate(test.database, pathToFileURL(`${folder}/`));
}

async function tables(): Promise<string[]> {
  return test.database("pg_tables").where({ schemaname: "public" }).orderBy("tablename").pluck("tablename");
}

it("creates every table in an empty database, and changes nothing the second time", async () => {
  await migrate(test.database);
  const applied = await test.database("migration").orderBy("number");
  expect(applied[0]).toMatchObject({ number: 1, name: "0001_accounts.sql", applied_at: expect.any(Date) });
  expect(await tables()).toEqual(expect.arrayContaining(["company", "quota", "user_account"]));
  await migrate(test.database);
  expect(await test.database("migration").orderBy("number")).toEqual(applied);
});

it("runs once when five servers start at the same time", async () => {
  const servers = Array.from({ length: 5 }, () =>
    openDatabase({ url: test.url, poolSize: 2, statementTimeoutMs: 10_000 }),
  );
  await Promise.all(servers.map((database) => migrate(database)));
  const numbers = await test.database("migration").pluck("number");
  expect(new Set(numbers).size).toBe(numbers.length);
  await Promise.all(servers.map((database) => database.destroy()));
});

it("applies only new migrations", async () => {
  await migrateTo({ "0001_one.sql": "create table one ()" });
  await migrateTo({ "0002_two.sql": "create table two ()" });
  expect(await tables()).toEqual(["migration", "one", "two"]);
});

it("keeps the migrations before one that fails, and nothing of that one", async () => {
  const files = { "0001_one.sql": "create table one ()", "0002_two.sql": "create table two (); select 1 / 0" };
  await expect(migrateTo(files)).rejects.toThrow("division by zero");
  expect(await tables()).toEqual(["migration", "one"]);
  expect(await test.database("migration").pluck("number")).toEqual([1]);
});

it("repeats a migration that cannot lock a table in time, and lets calls of the table pass meanwhile", async () => {
  await migrateTo({ "0001_one.sql": "create table one ()" });
  const reader = await test.database.transaction();
  await reader.raw("select from one");
  const migrating = migrateTo({ "0002_two.sql": "create table two (); alter table one add column number integer" });
  const isWaiting = () => test.database("pg_locks").where({ granted: false, locktype: "relation" }).first();
  await expect.poll(isWaiting).toBeDefined();
  // Queues behind the migration, which gives up.
  await test.database("one").select();
  await reader.commit();
  await migrating;
  expect(await test.database("migration").orderBy("number").pluck("number")).toEqual([1, 2]);
});

it("refuses a migration that was changed after it was applied", async () => {
  await migrateTo({ "0001_one.sql": "create table one ()" });
  await expect(migrateTo({ "0001_one.sql": "create table other ()" })).rejects.toThrow(
    "migration 0001_one.sql was applied and has been changed since: migrations are append-only",
  );
});

it("runs on a database that is newer than the code", async () => {
  await migrateTo({ "0001_one.sql": "create table one ()", "0002_two.sql": "create table two ()" });
  await rm(join(folder, "0002_two.sql"));
  await migrateTo({});
  expect(await tables()).toEqual(["migration", "one", "two"]);
});

it("refuses a database that has a contract migration that the code does not know", async () => {
  const contract = "-- contract: no server before release 2.0 writes one\ndrop table one";
  await migrateTo({ "0001_one.sql": "create table one ()", "0002_two.sql": contract });
  await rm(join(folder, "0002_two.sql"));
  await expect(migrateTo({})).rejects.toThrow("the database is newer than this server: it has migration 0002_two.sql");
});

it("accepts a gap in the numbers, and a migration that fills it later", async () => {
  await migrateTo({ "0001_one.sql": "create table one ()", "0003_three.sql": "create table three ()" });
  await migrateTo({ "0002_two.sql": "create table two ()" });
  expect(await tables()).toEqual(["migration", "one", "three", "two"]);
});

it.each(["0001_other.sql", "other.sql"])("refuses %s, which has no number of its own", async (name) => {
  await expect(migrateTo({ "0001_one.sql": "select 1", [name]: "select 1" })).rejects.toThrow(
    `each migration needs a number of its own: ${name}`,
  );
});

it("passes a question mark through unchanged", async () => {
  await migrateTo({
    "0001_one.sql": `create table one as select '{"a": 1}'::jsonb ? 'a' as answer, 'why?' as question`,
  });
  expect(await test.database("one").first()).toEqual({ answer: true, question: "why?" });
});

it("may take longer than the statement timeout", async () => {
  const impatient = openDatabase({ url: test.url, poolSize: 1, statementTimeoutMs: 100 });
  await writeFile(join(folder, "0001_one.sql"), "select pg_sleep(0.3)");
  await migrate(impatient, pathToFileURL(`${folder}/`));
  expect(await test.database("migration").pluck("name")).toEqual(["0001_one.sql"]);
  await impatient.destroy();
});

const buildsIndex = `-- transaction: off
drop index concurrently if exists one_number;
create index concurrently one_number on one (number);
`;
const one = "create table one (number integer); insert into one select generate_series(1, 1000)";

async function isValid(index: string): Promise<boolean | undefined> {
  const row = await test
    .database("pg_index")
    .where("indexrelid", test.database.raw("to_regclass(?)", [index]))
    .first();
  return row?.indisvalid;
}

it("runs a migration without a transaction, between others", async () => {
  await migrateTo({ "0001_one.sql": one, "0002_index.sql": buildsIndex, "0003_two.sql": "create table two ()" });
  expect(await isValid("one_number")).toBe(true);
  expect(await test.database("migration").orderBy("number").pluck("number")).toEqual([1, 2, 3]);
});

it("servers that start together build an index concurrently once, and none waits for ever", async () => {
  await migrateTo({ "0001_one.sql": one });
  await writeFile(join(folder, "0002_index.sql"), buildsIndex);
  const servers = Array.from({ length: 3 }, () =>
    openDatabase({ url: test.url, poolSize: 1, statementTimeoutMs: 10_000 }),
  );
  // The build waits for this transaction: meanwhile the other servers wait for the build.
  const writer = await test.database.transaction();
  await writer.raw("insert into one values (1)");
  const migrating = Promise.all(servers.map((database) => migrate(database, pathToFileURL(`${folder}/`))));
  const building = () =>
    test
      .database("pg_stat_activity")
      .whereLike("query", "%create index concurrently%")
      .andWhere({ wait_event_type: "Lock" });
  await expect.poll(async () => (await building()).length, { timeout: 30_000 }).toBe(1);
  await writer.commit();
  await migrating;
  expect(await isValid("one_number")).toBe(true);
  expect(await test.database("migration").pluck("number")).toEqual([1, 2]);
  await Promise.all(servers.map((database) => database.destroy()));
});

it("a build that is killed in its middle is repeated, and its index is valid", async () => {
  await migrateTo({ "0001_one.sql": one });
  const writer = await test.database.transaction();
  await writer.raw("insert into one values (1)");
  const outcome = migrateTo({ "0002_index.sql": buildsIndex }).then(
    () => "migrated",
    (error: Error) => error.message,
  );
  const building = test
    .database("pg_stat_activity")
    .whereLike("query", "%create index concurrently%")
    .where({ wait_event_type: "Lock" });
  await expect.poll(async () => (await building.clone()).length, { timeout: 30_000 }).toBe(1);
  const [{ pid }] = await building.clone();
  await test.database.raw("select pg_terminate_backend(?, 5000)", [pid]);
  await writer.commit();
  expect(await outcome).toMatch("migration 0002_index.sql failed at statement 2 of 2; the next start repeats it from");
  expect(await isValid("one_number")).toBe(false);
  expect(await test.database("migration").pluck("number")).toEqual([1]);
  await migrateTo({});
  expect(await isValid("one_number")).toBe(true);
  expect(await test.database("migration").pluck("number")).toEqual([1, 2]);
});

it("a statement that fails outside a transaction is named, and the migration can be repeated", async () => {
  const failing =
    "-- transaction: off\ncreate table if not exists two ();\ninsert into one values (1 / (select count(*) - 1 from one));\n";
  await migrateTo({ "0001_one.sql": "create table one (number bigint); insert into one values (1)" });
  await expect(migrateTo({ "0002_two.sql": failing })).rejects.toThrow(
    "migration 0002_two.sql failed at statement 2 of 2; the next start repeats it from statement 1: division by zero",
  );
  expect(await tables()).toEqual(["migration", "one", "two"]);
  await test.database("one").insert({ number: 2 });
  await migrateTo({});
  expect(await test.database("migration").pluck("number")).toEqual([1, 2]);
});

it("refuses a migration that takes the remains of a failed build for an index", async () => {
  await migrateTo({ "0001_one.sql": `${one}; insert into one values (1)` });
  const unique = "create unique index concurrently if not exists one_number on one (number);\n";
  const files = { "0002_index.sql": `-- transaction: off\n${unique}` };
  await expect(migrateTo(files)).rejects.toThrow("could not create unique index");
  await expect(migrateTo({})).rejects.toThrow("it must drop them before it creates them: one_number");
});

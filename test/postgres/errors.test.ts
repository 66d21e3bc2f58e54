import { type AddressInfo, createServer } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import { knex } from "knex";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDatabase } from "../../src/postgres/database.ts";
import {
  isExclusionViolation,
  isForeignKeyViolation,
  isMissingPartition,
  isUniqueViolation,
  toDatabaseError,
} from "../../src/postgres/errors.ts";
import { notFound } from "../../src/shared/errors.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let test: TestDatabase;

beforeAll(async () => {
  test = await createTestDatabase();
});

afterAll(() => test.drop());

/** Returns the error of a rejected promise. Fails when the promise is fulfilled. */
async function errorOf(work: PromiseLike<unknown>): Promise<unknown> {
  return Promise.resolve(work).then(
    () => expect.fail("it should have failed"),
    (error: unknown) => error,
  );
}

function raised(sqlState: string): Promise<unknown> {
  return errorOf(test.database.raw(`do $$ begin raise exception 'secret' using errcode = '${sqlState}'; end $$`));
}

describe("an error of the database", () => {
  it.each(["08006", "53300", "57P01", "57014", "55P03", "40P01"])(
    "is UNAVAILABLE when it is temporary: %s",
    async (state) => {
      const error = toDatabaseError(await raised(state));
      expect(error.code).toBe(Code.Unavailable);
      expect(error.metadata.get("retry-after")).toBe("1");
    },
  );

  it.each(["42P01", "22012", "23514", "XX000"])("is INTERNAL when it is a bug: %s", async (state) => {
    expect(toDatabaseError(await raised(state)).code).toBe(Code.Internal);
  });

  it.each(["57014", "42601"])("hides the statement from the caller and keeps it for the log: %s", async (state) => {
    const cause = await raised(state);
    const error = toDatabaseError(cause);
    expect(error.message).not.toMatch(/secret|raise|do \$\$/);
    expect(error.cause).toBe(cause);
  });

  it("stays unchanged when it is already an error of the API", () => {
    const named = notFound("company", "nowhere");
    expect(toDatabaseError(named)).toBe(named);
  });
});

describe("a database that cannot be reached", () => {
  it("is UNAVAILABLE when nothing listens", async () => {
    const url = `postgres://unknown_user@127.0.0.1:${await unusedPort()}/nothing`;
    const database = openDatabase({ url, poolSize: 1, statementTimeoutMs: 1000 });
    expect(toDatabaseError(await errorOf(database.raw("select 1"))).code).toBe(Code.Unavailable);
    await database.destroy();
  });

  it("is UNAVAILABLE when it accepts connections and never responds", async () => {
    const silent = createServer();
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as AddressInfo;
    const client = new pg.Client({ host: "127.0.0.1", port, connectionTimeoutMillis: 50 });
    expect(toDatabaseError(await errorOf(client.connect())).code).toBe(Code.Unavailable);
    silent.close();
  });

  it("is UNAVAILABLE when it closes the connection during a call", async () => {
    const work = test.database.transaction(async (transaction) => {
      const { rows } = await transaction.raw("select pg_backend_pid() as id");
      await test.database.raw("select pg_terminate_backend(?, 5000)", [rows[0].id]);
      await transaction.raw("select 1");
    });
    expect(toDatabaseError(await errorOf(work)).code).toBe(Code.Unavailable);
  });

  it("is UNAVAILABLE when all connections are in use", () => {
    expect(toDatabaseError(new knex.KnexTimeoutError("Timeout acquiring a connection")).code).toBe(Code.Unavailable);
  });

  it("is distinguished from a missing file", () => {
    const missing = Object.assign(new Error("no such file"), { code: "ENOENT" });
    expect(toDatabaseError(missing).code).toBe(Code.Internal);
  });
});

describe("a violation", () => {
  it("of uniqueness is distinguished from others", async () => {
    await test.database("company").insert({ key: "twice" });
    const error = await errorOf(test.database("company").insert({ key: "twice" }));
    expect([isUniqueViolation(error), isForeignKeyViolation(error), isExclusionViolation(error)]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it("of a reference is distinguished from others", async () => {
    const user = { username: "homeless", company_key: "nowhere", enabled: true, roles: [], timezone: 0 };
    const error = await errorOf(test.database("user_account").insert(user));
    expect([isUniqueViolation(error), isForeignKeyViolation(error)]).toEqual([false, true]);
    expect(error).toMatchObject({ constraint: "user_account_company_key_fkey" });
  });

  it("of a missing partition is distinguished from that of a check", async () => {
    await test.database.raw("create table checked (number integer check (number > 0))");
    const check = await errorOf(test.database("checked").insert({ number: 0 }));
    const missing = await errorOf(
      test.database.raw("insert into data_chunk (file_id, day, start, content) values (1, '1999-01-01', 0, '')"),
    );
    expect(check).toMatchObject({ code: "23514" });
    expect([check, missing, undefined].map(isMissingPartition)).toEqual([false, true, false]);
  });

  it("is not reported for other errors", () => {
    expect(isUniqueViolation(undefined)).toBe(false);
    expect(isUniqueViolation(new ConnectError("23505"))).toBe(false);
  });
});

async function unusedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

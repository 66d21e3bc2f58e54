import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Database, inTransaction, openDatabase } from "../../src/postgres/database.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let test: TestDatabase;
let database: Database;

beforeAll(async () => {
  test = await createTestDatabase();
  database = test.database;
});

afterAll(() => test.drop());

/** Returns a promise and the function that resolves it. */
function signal(): [Promise<void>, () => void] {
  let give = (): void => undefined;
  const given = new Promise<void>((resolve) => {
    give = resolve;
  });
  return [given, () => give()];
}

async function valueOf(sql: string): Promise<unknown> {
  const { rows } = await database.raw<{ rows: { value: unknown }[] }>(`select ${sql} as value`);
  return rows[0]?.value;
}

describe("values", () => {
  it("reads 64-bit integers as numbers, up to 2^53", async () => {
    expect(await valueOf("9007199254740991::bigint")).toBe(9_007_199_254_740_991);
    expect(await valueOf("-5::bigint")).toBe(-5);
  });

  it("fails instead of rounding an integer beyond 2^53, and keeps working", async () => {
    await expect(valueOf("9007199254740993::bigint")).rejects.toThrow("beyond 2^53: 9007199254740993");
    expect(await valueOf("1")).toBe(1);
  });

  it.each([
    [],
    ["USER"],
    ["USER", "ADMIN"],
    ["", "a b", "x,y"],
    ["{a}", '"q"', "b\\s"],
    [null, "NULL", "null", "ANNULLED"],
    ["é", "-"],
  ])("reads an array of texts: %j", async (...texts) => {
    const { rows } = await database.raw<{ rows: { value: unknown }[] }>("select ?::text[] as value", [
      texts as string[],
    ]);
    expect(rows[0]?.value).toEqual(texts);
  });

  it("reads a date as it is written", async () => {
    expect(await valueOf("date '2024-02-29'")).toBe("2024-02-29");
  });
});

describe("limits", () => {
  it("cancels a statement that exceeds the timeout", async () => {
    const impatient = openDatabase({ url: test.url, poolSize: 1, statementTimeoutMs: 100 });
    await expect(impatient.raw("select pg_sleep(60)")).rejects.toMatchObject({ code: "57014" });
    await impatient.destroy();
  });

  it("waits for a lock for half as long as for a statement", async () => {
    const impatient = openDatabase({ url: test.url, poolSize: 1, statementTimeoutMs: 200 });
    await database.transaction(async (holder) => {
      await holder.raw("select pg_advisory_xact_lock(1)");
      await expect(impatient.raw("select pg_advisory_lock(1)")).rejects.toMatchObject({ code: "55P03" });
    });
    await impatient.destroy();
  });

  it("opens no more connections than the pool has", async () => {
    const small = openDatabase({ url: test.url, poolSize: 2, statementTimeoutMs: 10_000 });
    const backends = await Promise.all(
      Array.from({ length: 8 }, () => small.raw("select pg_backend_pid() as backend, pg_sleep(0.01)")),
    );
    expect(new Set(backends.map(({ rows }) => rows[0].backend)).size).toBeLessThanOrEqual(2);
    await small.destroy();
  });

  it("replaces a connection that the server has ended", async () => {
    const single = openDatabase({ url: test.url, poolSize: 1, statementTimeoutMs: 10_000 });
    const backend = async () => (await single.raw("select pg_backend_pid() as id")).rows[0].id as number;
    const first = await backend();
    await database.raw("select pg_terminate_backend(?, 5000)", [first]);
    expect(await backend()).not.toBe(first);
    await single.destroy();
  });

  it("finishes running transactions before it closes", async () => {
    const [beginning, begun] = signal();
    const closing = openDatabase({ url: test.url, poolSize: 2, statementTimeoutMs: 10_000 });
    let finished = false;
    const running = closing.transaction(async (transaction) => {
      begun();
      await transaction.raw("select pg_sleep(0.2)");
      finished = true;
    });
    await beginning;
    await closing.destroy();
    expect(finished).toBe(true);
    await running;
  });
});

describe("transactions", () => {
  it("roll back work that fails", async () => {
    const work = inTransaction(database, async (transaction) => {
      await transaction("company").insert({ key: "half_done" });
      throw new Error("changed my mind");
    });
    await expect(work).rejects.toThrow("changed my mind");
    expect(await database("company").where({ key: "half_done" })).toEqual([]);
  });

  it("run again after a deadlock, and both succeed", async () => {
    await database("company").insert([{ key: "deadlock_a" }, { key: "deadlock_b" }]);
    let runs = 0;
    let entered = 0;
    const [bothIn, letBothIn] = signal();
    const lockInTurn = (first: string, second: string) =>
      inTransaction(database, async (transaction) => {
        runs += 1;
        await transaction.raw("set local deadlock_timeout = '20ms'");
        await transaction("company").where({ key: first }).update({ detail: second });
        entered += 1;
        if (entered === 2) letBothIn();
        await bothIn;
        await transaction("company").where({ key: second }).update({ detail: first });
      });
    await Promise.all([lockInTurn("deadlock_a", "deadlock_b"), lockInTurn("deadlock_b", "deadlock_a")]);
    expect(runs).toBeGreaterThanOrEqual(3);
  });

  it("give up after four runs", async () => {
    let runs = 0;
    const work = inTransaction(database, async (transaction) => {
      runs += 1;
      await transaction.raw("do $$ begin raise exception 'again' using errcode = '40001'; end $$");
    });
    await expect(work).rejects.toMatchObject({ code: "40001" });
    expect(runs).toBe(4);
  });

  it("run once when they fail for any other reason", async () => {
    let runs = 0;
    const work = inTransaction(database, async (transaction) => {
      runs += 1;
      await transaction.raw("select 1 / 0");
    });
    await expect(work).rejects.toMatchObject({ code: "22012" });
    expect(runs).toBe(1);
  });
});

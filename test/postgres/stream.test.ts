import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type Database, openDatabase } from "../../src/postgres/database.ts";
import { type StreamOptions, streamRows } from "../../src/postgres/stream.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

interface Row {
  readonly number: number;
}

let test: TestDatabase;
let database: Database;

beforeAll(async () => {
  // Four connections: two streams at once.
  test = await createTestDatabase({ poolSize: 4, statementTimeoutMs: 500 });
  database = test.database;
});

afterAll(() => test.drop());

function numbers(count: number) {
  return database
    .select("number")
    .from(database.raw("generate_series(1, ?) as number", [count]))
    .where("number", ">", 0);
}

function stream(count: number, options: Partial<StreamOptions> = {}) {
  return streamRows<Row>(database, numbers(count), {
    offset: 0,
    limit: count,
    signal: new AbortController().signal,
    ...options,
  });
}

/** The number of connections in use. */
function taken(): number {
  return database.client.pool.numUsed();
}

async function readAll(pages: AsyncIterable<Row[]>): Promise<number[]> {
  const read: number[] = [];
  for await (const page of pages) read.push(...page.map(({ number }) => number));
  return read;
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}

describe("rows", () => {
  it.each([0, 1, 1000, 1001, 2000, 2500])("arrive completely, once and in order: %i", async (count) => {
    expect(await readAll(stream(count))).toEqual(upTo(count));
    expect(taken()).toBe(0);
  });

  it("of several pages arrive in pieces of a hundred, those of a single page at once", async () => {
    const sizesOf = async (count: number) => {
      const sizes: number[] = [];
      for await (const piece of stream(count)) sizes.push(piece.length);
      return sizes;
    };
    expect(await sizesOf(1050)).toEqual([...Array.from({ length: 10 }, () => 100), 50]);
    expect(await sizesOf(1000)).toEqual([1000]);
  });

  it("arrive when the event loop has handled other calls, at most one piece of all lists a turn", async () => {
    let turn = 0;
    const countTurn = () => {
      turn += 1;
      counting = setImmediate(countTurn);
    };
    let counting = setImmediate(countTurn);
    const turnOfPieces: number[] = [];
    const read = async () => {
      for await (const piece of stream(3000)) {
        expect(piece).toHaveLength(100);
        turnOfPieces.push(turn);
      }
    };
    await Promise.all([read(), read()]);
    clearImmediate(counting);
    expect(turnOfPieces).toHaveLength(60);
    expect(new Set(turnOfPieces).size).toBe(60);
  });

  it("arrive when the first page takes longer than the statement timeout", async () => {
    const slow = numbers(1001).select(database.raw("pg_sleep(case when number = 1 then 0.6 else 0 end)"));
    const options = { offset: 0, limit: 1001, signal: new AbortController().signal };
    expect(await readAll(streamRows<Row>(database, slow, options))).toEqual(upTo(1001));
  });

  it.each([
    [0, 20, "500ms"],
    [0, 1000, "500ms"],
    [9980, 20, "500ms"],
    [0, 1001, "2min"],
    [9981, 20, "2min"],
    [1_000_000, 10, "2min"],
  ])("get a longer timeout for a large sort: offset %i, limit %i", async (offset, limit, longest) => {
    const query = database
      .select(database.raw("number, current_setting('statement_timeout') as longest"))
      .from(numbers(offset + limit).as("numbers"))
      .offset(offset)
      .limit(limit);
    const pages = streamRows<Row & { longest: string }>(database, query, {
      offset,
      limit,
      signal: new AbortController().signal,
    });
    expect((await pages.next()).value?.[0]).toEqual({ number: offset + 1, longest });
    await pages.return(undefined);
  });

  it("of a far page arrive when the offset takes longer than the statement timeout", async () => {
    const slow = numbers(1_000_010)
      .select(database.raw("case when number = 1 then pg_sleep(0.6) end"))
      .offset(1_000_000)
      .limit(10);
    const options = { offset: 1_000_000, limit: 10, signal: new AbortController().signal };
    expect(await readAll(streamRows<Row>(database, slow, options))).toEqual(
      upTo(10).map((number) => 1_000_000 + number),
    );
  });

  it("come from one snapshot during concurrent writes", async () => {
    await database.raw("insert into company (key) select 'company_' || i from generate_series(1, 1500) as i");
    const pages = streamRows(database, database("company").select("key").limit(5000), {
      offset: 0,
      limit: 5000,
      signal: new AbortController().signal,
    });
    await pages.next();
    await database("company").delete();
    let rest = 0;
    for await (const piece of pages) rest += piece.length;
    expect(rest).toBe(1400);
  });

  it("may take longer in total than the statement timeout", async () => {
    const query = database
      .select(database.raw("i, case when i % 1000 = 0 then pg_sleep(0.2) end"))
      .from(database.raw("generate_series(1, 4000) as i"));
    let count = 0;
    const begin = performance.now();
    const pages = streamRows<Row>(database, query, { offset: 0, limit: 4000, signal: new AbortController().signal });
    for await (const page of pages) count += page.length;
    expect(count).toBe(4000);
    expect(performance.now() - begin).toBeGreaterThan(500);
  });
});

describe("the connection is released", () => {
  it("when the reader stops early", async () => {
    for (let round = 0; round < 6; round += 1) {
      for await (const page of stream(5000)) {
        expect(page).toHaveLength(100);
        break;
      }
    }
    expect(taken()).toBe(0);
  });

  it("when all rows are fetched, before the reader takes the last page", async () => {
    const last = stream(1500);
    for (let piece = 0; piece < 10; piece += 1) await last.next();
    expect(taken()).toBe(1);
    expect((await last.next()).value).toHaveLength(100);
    expect(taken()).toBe(0);
    const far = stream(1000, { offset: 1_000_000 });
    expect((await far.next()).value).toHaveLength(1000);
    expect(taken()).toBe(0);
    expect(await far.next()).toEqual({ done: true, value: undefined });
  });

  it("when the reader fails", async () => {
    const failing = async () => {
      for await (const page of stream(5000)) throw new Error(`cannot take ${page.length} rows`);
    };
    for (let round = 0; round < 6; round += 1) await expect(failing()).rejects.toThrow("cannot take 100 rows");
    expect(taken()).toBe(0);
  });

  it("when the query fails, before the first row or after it", async () => {
    const options = { offset: 0, limit: 5000, signal: new AbortController().signal };
    for (let round = 0; round < 3; round += 1) {
      const wrong = streamRows(database, database("nothing").select(), options);
      await expect(wrong.next()).rejects.toMatchObject({ code: "42P01" });
      const source = database.raw("generate_series(1, 5000) as i");
      const late = streamRows(database, database.select(database.raw("1 / (1500 - i)")).from(source), options);
      for (let piece = 0; piece < 10; piece += 1) expect((await late.next()).value).toHaveLength(100);
      await expect(late.next()).rejects.toMatchObject({ code: "22012" });
      const plain = streamRows(database, database("nothing").select(), { ...options, limit: 10 });
      await expect(plain.next()).rejects.toMatchObject({ code: "42P01", message: expect.stringContaining("nothing") });
    }
    expect(taken()).toBe(0);
  });

  it("when the server ends the connection", async () => {
    const pages = stream(5000);
    await pages.next();
    // The next page may be in memory already, or be read.
    await database.raw(
      "select pg_terminate_backend(pid, 5000) from pg_stat_activity where query like 'fetch %' and datname = current_database()",
    );
    await expect(readAll(pages)).rejects.toThrow();
    expect(taken()).toBe(0);
    expect(await readAll(stream(1500))).toEqual(upTo(1500));
  });

  it("when the call is aborted while the reader stalls on a page", async () => {
    const call = new AbortController();
    const pages = stream(5000, { signal: call.signal });
    await pages.next();
    expect(taken()).toBe(1);
    call.abort(new ConnectError("went away", Code.Canceled));
    await vi.waitFor(() => expect(taken()).toBe(0));
    await expect(pages.next()).rejects.toThrow("went away");
  });

  it("when the reader stalls for too long, and the reader gets UNAVAILABLE", async () => {
    const pages = stream(5000, { pace: { slackMs: 50, pageMs: 1000 } });
    await pages.next();
    await vi.waitFor(() => expect(taken()).toBe(0));
    await expect(pages.next()).rejects.toMatchObject({ code: Code.Unavailable });
  });

  it("when the reader stays below the minimum rate", async () => {
    const pages = stream(100_000, { pace: { slackMs: 300, pageMs: 10 } });
    const read = async () => {
      for await (const page of pages) await new Promise((resolve) => setTimeout(resolve, page.length / 10));
    };
    await expect(read()).rejects.toMatchObject({ code: Code.Unavailable });
    expect(taken()).toBe(0);
  });

  it("only at the end when the reader keeps the minimum rate", async () => {
    const pages = stream(40_000, { pace: { slackMs: 600, pageMs: 100 } });
    let count = 0;
    const begin = performance.now();
    for await (const page of pages) {
      count += page.length;
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
    // The whole list took longer than a reader may fall behind.
    expect(performance.now() - begin).toBeGreaterThan(1000);
    expect(count).toBe(40_000);
  });

  it("only at the end when the server is busy and the reader is fast", async () => {
    const delay = () => {
      const end = performance.now() + 5;
      while (performance.now() < end);
      delaying = setImmediate(delay);
    };
    let delaying = setImmediate(delay);
    const begin = performance.now();
    let count = 0;
    try {
      for await (const page of stream(4000, { pace: { slackMs: 300, pageMs: 10 } })) count += page.length;
    } finally {
      clearImmediate(delaying);
    }
    expect(performance.now() - begin).toBeGreaterThan(400);
    expect(count).toBe(4000);
  });
});

describe("a running statement", () => {
  /** The first row takes longer than any test. */
  const endless = () => numbers(5000).select(database.raw("pg_sleep(case when number = 1 then 100 else 0 end)"));

  function begin(call: AbortController) {
    const pages = streamRows<Row>(database, endless(), { offset: 0, limit: 5000, signal: call.signal });
    const next = pages.next();
    next.catch(() => undefined);
    return next;
  }

  async function fetching(by: Database = database): Promise<number> {
    const { rows } = await by.raw(
      "select 1 from pg_stat_activity where datname = current_database() and state = 'active' and query like 'fetch%'",
    );
    return rows.length;
  }

  it("is canceled when the call is aborted, and its connection and slot are released", async () => {
    const calls = [new AbortController(), new AbortController()];
    const waiting = calls.map(begin);
    await vi.waitFor(async () => expect(await fetching()).toBe(2));
    for (const call of calls) call.abort(new ConnectError("went away", Code.Canceled));
    for (const next of waiting) await expect(next).rejects.toThrow("went away");
    expect(taken()).toBe(0);
    expect(await fetching()).toBe(0);
    expect(await readAll(stream(1500))).toEqual(upTo(1500));
  });

  it("is canceled as soon as a connection for the cancel request is free", async () => {
    const call = new AbortController();
    const next = begin(call);
    await vi.waitFor(async () => expect(await fetching()).toBe(1));
    const others = await Promise.all([database.transaction(), database.transaction(), database.transaction()]);
    call.abort(new Error("went away"));
    await vi.waitFor(() => expect(database.client.pool.numPendingAcquires()).toBe(1));
    for (const other of others) await other.rollback();
    await expect(next).rejects.toThrow("went away");
    expect(taken()).toBe(0);
  });

  it("that has ended keeps its connection until the cancel request is done", async () => {
    const observer = openDatabase({ url: test.url, poolSize: 1, statementTimeoutMs: 500 });
    const call = new AbortController();
    const short = numbers(5000).select(database.raw("pg_sleep(case when number = 1 then 1 else 0 end)"));
    const next = streamRows<Row>(database, short, { offset: 0, limit: 5000, signal: call.signal }).next();
    const settled = vi.fn<() => void>();
    next.then(settled, settled);
    try {
      await vi.waitFor(async () => expect(await fetching()).toBe(1));
      const others = await Promise.all([database.transaction(), database.transaction(), database.transaction()]);
      call.abort(new Error("went away"));
      await vi.waitFor(async () => expect(await fetching(observer)).toBe(0), { timeout: 5000 });
      await observer.raw("select pg_sleep(0.2)");
      expect(settled).not.toHaveBeenCalled();
      for (const other of others) await other.rollback();
      await expect(next).rejects.toThrow("went away");
    } finally {
      await observer.destroy();
    }
  });

  it("is the only statement that a cancel request hits, not the next one on the connection", async () => {
    for (let round = 0; round < 40; round += 1) {
      const call = new AbortController();
      const next = begin(call);
      await new Promise((resolve) => setTimeout(resolve, round / 4));
      call.abort(new Error("went away"));
      await expect(next).rejects.toThrow("went away");
      expect(taken()).toBe(0);
      await Promise.all([1, 2, 3, 4].map(() => database.raw("select pg_sleep(0.005)")));
    }
  });

  it.each([
    [1000, "2min"],
    [300_000, "5min"],
  ])("may take two minutes, or the statement timeout if that is longer: %i ms", async (statementTimeoutMs, longest) => {
    const other = openDatabase({ url: test.url, poolSize: 2, statementTimeoutMs });
    try {
      const query = other.select(other.raw("current_setting('statement_timeout') as longest"));
      const pages = streamRows(other, query, { offset: 0, limit: 1001, signal: new AbortController().signal });
      expect((await pages.next()).value).toEqual([{ longest }]);
      await pages.return(undefined);
    } finally {
      await other.destroy();
    }
  });
});

describe("slots of streams", () => {
  it("leave half of the connections to other work", async () => {
    const open = [stream(5000), stream(5000)];
    for (const pages of open) await pages.next();
    const third = stream(5000);
    const thirdPage = third.next();
    await Promise.all([database.raw("select 1"), database.raw("select 1")]);
    expect(taken()).toBe(2);
    await open[0]?.return(undefined);
    expect((await thirdPage).value).toHaveLength(100);
    expect(taken()).toBe(2);
    for (const pages of [...open, third]) await pages.return(undefined);
  });

  it("pass from a reader that never returns to the next one", async () => {
    const sleepers = [1, 2].map(() => stream(5000, { pace: { slackMs: 50, pageMs: 1000 } }));
    for (const pages of sleepers) await pages.next();
    expect(await readAll(stream(1500))).toEqual(upTo(1500));
  });

  it("are not lost to a waiting call that is aborted", async () => {
    const open = [stream(5000), stream(5000)];
    for (const pages of open) await pages.next();
    const call = new AbortController();
    const waiting = Promise.allSettled(upTo(2).map(() => stream(5000, { signal: call.signal }).next()));
    const next = stream(1500);
    const nextPage = next.next();
    call.abort(new Error("no longer needed"));
    const refused = { status: "rejected", reason: new Error("no longer needed") };
    expect(await waiting).toEqual([refused, refused]);
    for (const pages of open) await pages.return(undefined);
    expect((await nextPage).value).toHaveLength(100);
    await next.return(undefined);
    expect(taken()).toBe(0);
  });

  it("are not taken by a call that is aborted before it begins", async () => {
    await expect(stream(5000, { signal: AbortSignal.abort(new Error("too late")) }).next()).rejects.toThrow("too late");
    expect(taken()).toBe(0);
  });
});

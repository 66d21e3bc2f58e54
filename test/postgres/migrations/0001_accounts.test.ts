import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Database, inTransaction } from "../../../src/postgres/database.ts";
import { isExclusionViolation, isForeignKeyViolation, isUniqueViolation } from "../../../src/postgres/errors.ts";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";

let test: TestDatabase;
let database: Database;

beforeAll(async () => {
  test = await createTestDatabase({ poolSize: 32 });
  database = test.database;
});
afterAll(() => test.drop());

beforeEach(() => database("company").insert([{ key: "first" }, { key: "second" }]));
afterEach(async () => {
  await database("user_account").delete();
  await database("company").delete();
});

function user(username: string, changes: object = {}) {
  return { username, company_key: "first", enabled: true, roles: ["USER"], timezone: 0, ...changes };
}

async function errorOf(work: PromiseLike<unknown>): Promise<unknown> {
  return Promise.resolve(work).then(
    () => expect.fail("it should have failed"),
    (error: unknown) => error,
  );
}

/** Limits that every quota has. */
const points = { points_per_request: 1_000_000, points_per_day: 100_000_000 };

describe("the search text", () => {
  it.each(["ÄRGER", "привет", "ŽluťOUČký", "FIRST", "ab@example.com", "+7 123"])(
    "is found in capital and in small letters of every alphabet: %s",
    async (word) => {
      const given = { name: "Ärger ПРИВЕТ", email: "AB@Example.com", phone: "+7 123 ŽLUŤOUČKÝ" };
      await database("user_account").insert([user("wanted", given), user("other", { company_key: "second" })]);
      const found = database("user_account").whereRaw("search like lower(?)", [`%${word}%`]);
      expect(await found.pluck("username")).toEqual(["wanted"]);
    },
  );

  it("of a company has its detail in every alphabet", async () => {
    await database("company").insert({ key: "third", detail: "ООО Ёлка Straßenbau ÄÖÜ" });
    for (const word of ["ёлка", "STRAßENBAU", "äöü", "THIRD"]) {
      const found = database("company").whereRaw("search like lower(?)", [`%${word}%`]);
      expect(await found.pluck("key")).toEqual(["third"]);
    }
  });

  it("does not join the end of one field and the beginning of the next", async () => {
    await database("user_account").insert(user("one", { name: "abc", email: "def" }));
    expect(await database("user_account").whereRaw("search like '%abcdef%'")).toEqual([]);
  });

  it("is found by an index, beyond ASCII too", async () => {
    const plan = await inTransaction(database, async (transaction): Promise<unknown> => {
      await transaction.raw("set local enable_seqscan = off");
      const { rows } = await transaction.raw("explain select 1 from user_account where search like '%привет%'");
      return rows;
    });
    expect(JSON.stringify(plan)).toContain("user_account_search");
  });
});

describe("the totals of users", () => {
  const kept = () =>
    database("user_total").select("company_key", "total", "active", "admins", "active_admins").orderBy("company_key");
  const counted = () =>
    database("user_account")
      .select("company_key")
      .select(
        database.raw(`
          count(*) as total,
          count(*) filter (where enabled) as active,
          count(*) filter (where 'ADMIN' = any (roles)) as admins,
          count(*) filter (where enabled and 'ADMIN' = any (roles)) as active_admins`),
      )
      .groupBy("company_key")
      .orderBy("company_key");

  it("follow every kind of change", async () => {
    await database("user_account").insert([
      user("a"),
      user("b", { enabled: false }),
      user("c", { roles: ["ADMIN", "USER"] }),
      user("d", { roles: ["ADMIN"], enabled: false, company_key: "second" }),
    ]);
    expect(await kept()).toEqual([
      { company_key: "first", total: 3, active: 2, admins: 1, active_admins: 1 },
      { company_key: "second", total: 1, active: 0, admins: 1, active_admins: 0 },
    ]);
    await database("user_account").where({ username: "d" }).update({ enabled: true, roles: [] });
    await database("user_account").where({ username: "c" }).update({ company_key: "second" });
    await database("user_account").where({ username: "b" }).delete();
    expect(await kept()).toEqual([
      { company_key: "first", total: 1, active: 1, admins: 0, active_admins: 0 },
      { company_key: "second", total: 2, active: 2, admins: 1, active_admins: 1 },
    ]);
  });

  it("go back with a transaction that fails", async () => {
    await database("user_account").insert(user("a"));
    await expect(
      inTransaction(database, async (transaction) => {
        await transaction("user_account").insert(user("b"));
        await transaction("user_account").insert(user("b"));
      }),
    ).rejects.toThrow();
    expect(await kept()).toMatchObject([{ total: 1 }]);
  });

  it("are not locked by a change that changes no total", async () => {
    await database("user_account").insert([user("a"), user("b")]);
    await database.transaction(async (counting) => {
      await counting("user_account").where({ username: "a" }).update({ enabled: false });
      const renamed = database.transaction(async (other) => {
        await other.raw("set local lock_timeout = '100ms'");
        await other("user_account").where({ username: "b" }).update({ name: "B" });
      });
      await expect(renamed).resolves.toBeUndefined();
    });
  });

  it("equal the count after 32 writers at once", async () => {
    const writer = async (name: string) => {
      for (let round = 0; round < 4; round += 1) {
        const username = `${name}_${round}`;
        const company_key = round % 2 === 0 ? "first" : "second";
        const other = round % 2 === 0 ? "second" : "first";
        // Two companies in one statement, in any order: the trigger settles the order.
        await database("user_account").insert([
          user(username, { company_key }),
          user(`${username}_x`, { company_key: other, roles: ["ADMIN"] }),
        ]);
        await database("user_account")
          .where({ username })
          .update({ company_key: other, enabled: round % 3 === 0 });
        if (round % 4 === 0) await database("user_account").where({ username }).delete();
      }
    };
    await Promise.all(Array.from({ length: 32 }, (_, index) => writer(`writer_${index}`)));
    expect(await kept()).toEqual(await counted());
    expect(await database("user_account").count({ total: "*" })).toEqual([{ total: 32 * (8 - 1) }]);
  });

  it("go with their company", async () => {
    await database("user_account").insert(user("a"));
    await database("user_account").delete();
    await database("company").where({ key: "first" }).delete();
    expect(await kept()).toEqual([]);
  });
});

describe("companies", () => {
  it("are counted", async () => {
    const total = () => database("company_total").pluck("total");
    expect(await total()).toEqual([2]);
    await Promise.all(Array.from({ length: 20 }, (_, index) => database("company").insert({ key: `more_${index}` })));
    await database("company").where({ key: "second" }).delete();
    expect(await total()).toEqual([21]);
  });

  it("stay while they have users", async () => {
    await database("user_account").insert(user("a"));
    const error = await errorOf(database("company").where({ key: "first" }).delete());
    expect(isForeignKeyViolation(error)).toBe(true);
    expect(error).toMatchObject({ constraint: "user_account_company_key_fkey" });
  });
});

describe("users", () => {
  it("have names that differ, in the case of letters if in nothing else", async () => {
    await database("user_account").insert([user("name"), user("Name")]);
    const error = await errorOf(database("user_account").insert(user("name", { company_key: "second" })));
    expect(isUniqueViolation(error)).toBe(true);
    expect(error).toMatchObject({ constraint: "user_account_username_key" });
  });

  it.each([-13, 13])("have no timezone that there is not: %i", async (timezone) => {
    expect(await errorOf(database("user_account").insert(user("a", { timezone })))).toMatchObject({ code: "23514" });
  });

  it("take their quotas with them", async () => {
    const [row] = await database("user_account").insert(user("a")).returning("id");
    await database("quota").insert({ user_id: row.id, service: "UNIVERSAL", method_group: "PLAN", ...points });
    await database("user_account").delete();
    expect(await database("quota")).toEqual([]);
  });
});

describe("quotas", () => {
  let user_id: number;

  beforeEach(async () => {
    const [row] = await database("user_account").insert(user("a")).returning("id");
    user_id = row.id;
  });

  const insert = (period: string | null, changes: object = {}) =>
    database("quota").insert({ user_id, service: "UNIVERSAL", method_group: "PLAN", period, ...points, ...changes });

  it("have one base of each service and method group", async () => {
    await insert(null);
    await insert(null, { method_group: "FACT" });
    expect(isUniqueViolation(await errorOf(insert(null)))).toBe(true);
  });

  it("have periods that touch, and none that overlap", async () => {
    await insert("[2024-01-01,2024-02-01)");
    await insert("[2024-02-01,2024-03-01)");
    await insert("[2024-01-15,2024-02-15)", { method_group: "FACT" });
    const error = await errorOf(insert("[2024-01-31,2024-02-02)"));
    expect(isExclusionViolation(error)).toBe(true);
    expect(error).toMatchObject({ constraint: "quota_period_overlap" });
  });

  it("let one of two periods in that overlap and come at the same time", async () => {
    const results = await Promise.allSettled([insert("[2024-01-01,2024-02-01)"), insert("[2024-01-15,2024-02-15)")]);
    expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
  });

  it.each(["empty", "[2024-01-01,)", "(,2024-01-01)"])(
    "have no period without days or without end: %s",
    async (period) => {
      expect(await errorOf(insert(period))).toMatchObject({ code: "23514" });
    },
  );

  it("have no limit below 0", async () => {
    expect(await errorOf(insert(null, { points_per_day: -1 }))).toMatchObject({ code: "23514" });
  });
});

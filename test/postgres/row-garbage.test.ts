import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { garbageLeftBy } from "../support/garbage-left.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test("with the options of npm start, dropped rows do not stay in memory until the next full garbage collection", async () => {
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8"));
  const options = scripts.start.split(" ").filter((word: string) => word.startsWith("--"));
  // A list that stays takes 5 KB.
  expect(await garbageLeftBy(options, "row-garbage.ts", database.url)).toBeLessThan(1000);
});

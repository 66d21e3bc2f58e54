import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test("with the options of npm start, dropped rows do not stay in memory until the next full garbage collection", async () => {
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8"));
  const options = scripts.start.split(" ").filter((word: string) => word.startsWith("--"));
  // Without a full collection.
  const program = ["--initial-old-space-size=512", "--import", "tsx", "test/support/row-garbage.ts", database.url];
  const { stdout } = await promisify(execFile)(process.execPath, [...options, ...program]);
  // A list that stays takes 5 KB.
  expect(stdout).toMatch(/^-?\d+\n$/);
  expect(Number(stdout)).toBeLessThan(1000);
});

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { builderCalls } from "../../src/generate/sql-samples.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let postgres: TestDatabase;
beforeAll(async () => {
  postgres = await createTestDatabase({ poolSize: 1 });
});
afterAll(() => postgres.drop());

const pages = readdirSync("gen/sql").map((name) => ({ name, text: readFileSync(join("gen/sql", name), "utf8") }));

test.each(pages)("PostgreSQL plans every statement of gen/sql/$name", async ({ text }) => {
  const { database } = postgres;
  const statements = text.split(/;\n/).filter((part) => part.trim() !== "");
  expect(statements.length).toBeGreaterThan(0);
  await database.raw("set plan_cache_mode = force_generic_plan");
  for (const statement of statements) {
    const count = Math.max(0, ...[...statement.matchAll(/\$(\d+)/g)].map(([, number]) => Number(number)));
    const values = count === 0 ? "" : `(${Array.from({ length: count }, () => "null").join(", ")})`;
    // No bindings: a question mark in the statement is not a placeholder of Knex here.
    await database.raw(`prepare checked as ${statement}`).catch((error: Error) => {
      throw new Error(`${statement}\n${error.message}`, { cause: error });
    });
    const { rows } = await database.raw<{ rows: unknown[] }>(`explain execute checked${values}`);
    expect(rows.length).toBeGreaterThan(0);
    await database.raw("deallocate checked");
  }
});

/** Builds parts of queries for the stores of the audit log. Calls of those stores send its SQL. */
const partsOfStores = ["audit/matching.ts"];

test("only files whose calls are in gen/sql build SQL with Knex", () => {
  const files = readdirSync("src", { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  const building = files.filter((file) => buildsSql(readFileSync(join("src", file), "utf8")));
  expect(building.toSorted()).toEqual([...builderCalls.keys(), ...partsOfStores].toSorted());
});

test.each([
  ['await database("user_account").where({ id });', true],
  ['const query = transaction<Row>("quota").insert(row);', true],
  ["await database.raw(`select 1`);", true],
  ['void query.whereRaw("a = b");', true],
  ["await queryRows(database, sql.findUser, [name]);", false],
])("the check sees whether %s builds SQL", (source, expected) => {
  expect(buildsSql(source)).toBe(expected);
});

function buildsSql(source: string): boolean {
  return /\b(?:database|transaction)(?:<[^()]*>)?\("|\b(?:database|transaction)\s*\.from\(|\.raw\b[<(]|\w+Raw\(/.test(
    source,
  );
}

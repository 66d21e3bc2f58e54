import { afterAll, beforeAll, expect, test } from "vitest";
import { columnOf, textColumnOf } from "../../src/postgres/columns.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let fixture: TestDatabase;
beforeAll(async () => {
  fixture = await createTestDatabase();
});
afterAll(() => fixture.drop());

async function read(type: string, column: string): Promise<unknown> {
  const { rows } = await fixture.database.raw<{ rows: { value: unknown }[] }>(`select ?::${type}[] as value`, [column]);
  return rows[0]?.value;
}

test("numbers and booleans arrive unchanged, and missing values as null", async () => {
  expect(
    await read(
      "float8",
      columnOf([1, -2.5, null, undefined, 1e21], (value) => value),
    ),
  ).toEqual([1, -2.5, null, null, 1e21]);
  expect(
    await read(
      "boolean",
      columnOf([true, false], (value) => value),
    ),
  ).toEqual([true, false]);
  expect(
    await read(
      "text",
      columnOf([-(2n ** 63n)], (value) => value),
    ),
  ).toEqual(["-9223372036854775808"]);
});

test("any text arrives unchanged", async () => {
  const texts = ["plain", "", "NULL", " ", ",", "{}", '"', "\\", '\\"\\\\', "$&", "a\nb", "ключ 🚚", "?", "'"];
  expect(
    await read(
      "text",
      textColumnOf([...texts, null, undefined], (text) => text),
    ),
  ).toEqual([...texts, null, null]);
});

test("no rows make an empty column", async () => {
  expect(
    await read(
      "text",
      textColumnOf([], () => ""),
    ),
  ).toEqual([]);
});

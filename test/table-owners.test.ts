import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

interface Write {
  readonly file: string;
  /** Undefined if the source does not show which table is written. */
  readonly table: string | undefined;
}

const page = readFileSync("docs/architecture.md", "utf8");
const owners = readOwners(page.slice(page.indexOf("## Where state lives")));
const files = readdirSync("src", { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
const writes = files.flatMap((file) => writesOf(file, readFileSync(join("src", file), "utf8")));

test("docs/architecture.md names every table of the migrations and no other", () => {
  expect([...owners.keys()].toSorted()).toEqual(readTables().toSorted());
});

test("every statement that writes a table is in the folder that owns the table", () => {
  expect(writes.length).toBeGreaterThan(20);
  expect(writes.filter((write) => !isAllowed(write))).toEqual([]);
});

test("each owner that docs/architecture.md names writes its table", () => {
  const written = new Set(writes.map(({ table }) => table));
  expect([...owners].filter(([table, owner]) => owner !== undefined && !written.has(table))).toEqual([]);
});

test.each([
  ["an SQL text that inserts rows", "const text = `insert into lease as kept (id) values ($1)`;"],
  ["an SQL text that updates rows", "const text = `update lease as kept\n set points = 1`;"],
  ["an SQL text that deletes rows", "const text = `delete from lease where id = $1`;"],
  ["a builder", 'await transaction<Row>("lease").where({ id }).update({ points });'],
  [
    "a builder that a function returns",
    'await all(database).where({ id }).delete();\nfunction all(d) {\n  return d("lease");\n}',
  ],
  ["a builder with onConflict", 'await transaction("lease").insert({ id }).onConflict("id").ignore();'],
  ["a call of deleteOldRows", 'const sql = { deleteOld: deleteOldRows("lease", "day") };'],
])("the check reports a write by another part in %s", (_name, source) => {
  const found = writesOf("audit/store.ts", source);
  expect(found).toEqual([{ file: "audit/store.ts", table: "lease" }]);
  expect(found.filter((write) => isAllowed(write))).toEqual([]);
});

/** Returns the folder that writes each table. Undefined if only triggers write it. */
function readOwners(section: string): ReadonlyMap<string, string | undefined> {
  const rows =
    section
      .match(/\| Table \| Writer \|[^\n]*\n(?:\|.*\n)+/)?.[0]
      .split("\n")
      .slice(2) ?? [];
  return new Map(
    rows.flatMap((row) => {
      const [, tables = "", writer = ""] = row.split("|");
      const owner = /^ `([\w/-]+)`/.exec(writer)?.[1];
      return [...tables.matchAll(/`(\w+)`/g)].map(([, table = ""]) => [table, owner] as const);
    }),
  );
}

function readTables(): string[] {
  const folder = "src/postgres/migrations";
  const sql = readdirSync(folder)
    .toSorted()
    .map((name) => readFileSync(join(folder, name), "utf8"));
  const names = new Set(["migration"]);
  for (const [, created, dropped, from, to] of sql
    .join("\n")
    .matchAll(/^create table (\w+)|^drop table (\w+)|^alter table (\w+) rename to (\w+)/gm)) {
    names.delete(dropped ?? from ?? "");
    if (created !== undefined || to !== undefined) names.add(created ?? to ?? "");
  }
  return [...names];
}

function isAllowed({ file, table }: Write): boolean {
  const owner = table === undefined ? undefined : owners.get(table);
  return owner !== undefined && file.startsWith(`${owner}/`);
}

/** Returns the writes in a source: SQL texts, calls of Knex's builder, and calls of `deleteOldRows`. */
function writesOf(file: string, source: string): Write[] {
  const code = source.replaceAll(/^\s*(?:\/\/|\/?\*).*$/gm, "");
  const texts = [
    ...code.matchAll(/\b(?:insert into|delete from|merge into|truncate(?: table)?) (\w+)/g),
    ...code.matchAll(/\bupdate (\w+)(?:\s+as\s+\w+)?\s+set\b/g),
  ].map(([, table]) => ({ file, table }));
  const builders = [...code.matchAll(/\.(?:insert\(|update\(\{|delete\(\)|del\(\)|upsert\(|truncate\(\))/g)].flatMap(
    ({ index }) => tablesOfBuilder(code, code.slice(0, index)).map((table) => ({ file, table })),
  );
  const old = [...code.matchAll(/\bdeleteOldRows\("(\w+)"/g)].map(([, table]) => ({ file, table }));
  return [...texts, ...builders, ...old];
}

/** Returns the tables that the statement before a write names, or else the tables that the called functions name. */
function tablesOfBuilder(code: string, before: string): (string | undefined)[] {
  const statement = before.slice(Math.max(before.lastIndexOf(";"), before.lastIndexOf("{\n")) + 1);
  const named = tablesNamedIn(statement);
  if (named.length > 0) return named.slice(0, 1);
  const made = [...statement.matchAll(/\b(\w+)\(/g)].flatMap(([, name = ""]) => {
    const start = code.search(new RegExp(`^(?:export )?(?:async )?function ${name}\\(`, "m"));
    return start < 0 ? [] : tablesNamedIn(code.slice(start, code.indexOf("\n}", start)));
  });
  return made.length > 0 ? made : [undefined];
}

function tablesNamedIn(code: string): string[] {
  return [...code.matchAll(/(?<![.\w])\w+(?:<[^()]*>)?\("(\w+)"\)/g)].map(([, table = ""]) => table);
}

import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const folder = "src/postgres/migrations";
/** The migrations before this one are of release 1.0. */
const first = 10;

/** Servers of the last release run on the migrated database. They may not survive these statements. */
const breaks: readonly [what: string, pattern: RegExp][] = [
  ["drops what they use", /\bdrop (table|column|function|type|sequence|trigger|schema|extension)\b/],
  ["renames what they use", /\brename\b/],
  ["changes the type of a column", /\balter (column )?\w+ (set data )?type\b/],
  ["refuses a row that they write", /\bset not null\b|\badd (constraint|check|unique|foreign key|primary key)\b/],
  ["refuses a row that they write", /\badd column (?!.*\b(default|generated)\b).*\bnot null\b/],
  ["refuses a row that they write", /\bcreate unique index\b/],
  ["changes values that they read", /\b(update \w+( as \w+)? set|delete from|truncate)\b/],
];

const files = readdirSync(folder).filter((name) => Number(name.slice(0, 4)) >= first);

test.each(files)("servers of the last release run on after %s, or it is a contract migration", (name) => {
  expect(violationsOf(readFileSync(`${folder}/${name}`, "utf8"))).toEqual([]);
});

test.each(files)("%s locks a table before it changes its rows", (name) => {
  expect(unlockedUpdatesOf(readFileSync(`${folder}/${name}`, "utf8"))).toEqual([]);
});

test.each([
  ["update one set two = 3;", ["one"]],
  ["UPDATE one\n  SET two = 3;", ["one"]],
  ["update only one kept set two = 3;", ["one"]],
  ["update one set two = 3; create trigger four after update on one;", ["one"]],
  ["alter table five add column two text; with six as (update one as seven set two = 3) select;", ["one"]],
  ["delete\nfrom one;", ["one"]],
  ["do $$ begin update one set two = 3; end $$;", ["one"]],
  ["lock table one in access share mode; update one set two = 3;", ["one"]],
  ["alter table one validate constraint six; update one set two = 3;", ["one"]],
  ["-- transaction: off\nalter table one add column two text;\nupdate one set two = 3;", ["one"]],
  ["lock table one; update one set two = 3;", []],
  ["lock table one in share row exclusive mode; update one set two = 3;", []],
  ["create trigger four after update on one; update one set two = 3;", []],
  ["alter table one add column two text; update one set two = 3;", []],
  ["create table one (); update one set two = 3;", []],
])("the rule of locks finds the tables of %s", (sql, tables) => {
  expect(unlockedUpdatesOf(sql)).toEqual(tables);
});

test.each([
  ["drops what they use", "alter table one drop column two;"],
  ["drops what they use", "-- A comment.\nDROP TABLE one;"],
  ["renames what they use", "alter table one\n  rename column two to three;"],
  ["changes the type of a column", "alter table one alter column two type bigint;"],
  ["refuses a row that they write", "alter table one alter column two set not null;"],
  ["refuses a row that they write", "alter table one add column two text not null;"],
  ["refuses a row that they write", "alter table one add constraint two check (three > 0);"],
  ["refuses a row that they write", "create unique index two on one (three);"],
  ["changes values that they read", "update one set two = 'new name';"],
  ["changes values that they read", "with three as (select 1) update one as two set four = 5;"],
])("the rule reports a migration that %s: %s", (what, sql) => {
  expect(violationsOf(`create index i on one (two);\n${sql}`)).toEqual([what]);
  expect(violationsOf(`-- compatible: a reason\n${sql}`)).toEqual([]);
  expect(violationsOf(`-- contract: no server before release 2.0 uses it\n${sql}`)).toEqual([]);
});

test.each([
  "create table one (two text not null, unique (two)); create unique index three on one (two);",
  "alter table one add column two text;",
  "alter table one add column two text not null default '';",
  "create function one() returns trigger language plpgsql as $$\nbegin\n  delete from two;\n  return null;\nend $$;",
])("the rule accepts a migration that adds: %s", (sql) => {
  expect(violationsOf(sql)).toEqual([]);
});

/** Returns what each statement without a mark would break. */
function violationsOf(sql: string): string[] {
  if (sql.startsWith("-- contract: ")) return [];
  const created = new Set([...sql.matchAll(/create table (\w+)/gi)].map(([, table]) => table));
  // The bodies of functions are no statements of the migration.
  return sql
    .replaceAll(/\$\$.*?\$\$/gs, "")
    .split(";")
    .flatMap((statement) => {
      if (/^\s*(--.*\n\s*)*-- compatible: .*\n/.test(statement)) return [];
      const text = statement.replaceAll(/--.*/g, "").replaceAll(/\s+/g, " ").trim().toLowerCase();
      const table = /^create unique index .*?\bon (\w+)/.exec(text)?.[1] ?? /^alter table (\w+)/.exec(text)?.[1];
      if (created.has(table)) return [];
      return breaks.filter(([, pattern]) => pattern.test(text)).map(([what]) => what);
    });
}

/**
 * Returns the tables whose rows change before a statement locks out writers. What a server of the last release commits
 * after such a change is not changed.
 */
function unlockedUpdatesOf(sql: string): string[] {
  const text = sql
    .replaceAll(/--.*/g, "")
    .replaceAll(/(?<!\bdo\s+)\$\$.*?\$\$/gis, "")
    .replaceAll(/\s+/g, " ")
    .toLowerCase();
  // Without a transaction, a lock ends with its statement.
  const lasts = !/^-- transaction: off$/m.test(sql);
  const locks =
    /\b(?:lock table (\w+)(?: in (?:share row exclusive|exclusive|access exclusive) mode)? ?;|alter table (\w+) (?!validate)|create table (\w+)|create trigger [^;]*? on (\w+))/g;
  const changes = /\b(?:update (?:only )?(\w+)(?: (?:as )?\w+)? set|delete from (?:only )?(\w+))\b/g;
  return [...text.matchAll(changes)].flatMap((change) => {
    const table = change[1] ?? change[2] ?? "";
    const locked = [...text.slice(0, change.index).matchAll(locks)].flatMap((names) => names.slice(1));
    return lasts && locked.includes(table) ? [] : [table];
  });
}

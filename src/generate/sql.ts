import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import knex from "knex";
import type pg from "pg";
import type { Database, Transaction } from "../postgres/database.ts";
import { listStatements, type Statement } from "../postgres/statements.ts";
import { builderCalls } from "./sql-samples.ts";

/** Writes gen/sql: one file for each file of src, with its constant statements and the SQL of Knex's builder. */
async function writeSql(): Promise<void> {
  const sections = new Map<string, string[]>();
  for (const [file, statements] of await readConstants()) sections.set(file, statements.map(describeConstant));
  for (const [file, functions] of builderCalls) {
    const built = sections.get(file) ?? [];
    for (const [name, calls] of Object.entries(functions)) {
      for (const [call, run] of Object.entries(calls)) {
        const title = call === "" ? name : `${name}: ${call}`;
        for (const text of await recordTexts(run)) built.push(`-- ${title}\n${layOut(text)};`);
      }
    }
    sections.set(file, built);
  }
  rmSync("gen/sql", { recursive: true, force: true });
  mkdirSync("gen/sql");
  for (const [file, parts] of sections) {
    const page = [`-- The SQL of src/${file}. Made by \`npm run gen\`.`, ...parts].join("\n\n");
    writeFileSync(join("gen/sql", `${file.replaceAll("/", "-").replace(".ts", "")}.sql`), `${page}\n`);
  }
}

/** Loads every file that defines statements. Returns the statements by file. */
async function readConstants(): Promise<ReadonlyMap<string, readonly Statement[]>> {
  const found = new Map<string, readonly Statement[]>();
  const files = readdirSync("src", { recursive: true, encoding: "utf8" }).toSorted();
  for (const file of files.filter((name) => name.endsWith(".ts") && !name.startsWith("generate"))) {
    const store = /\bdefineStatements\("([\w-]+)"/.exec(readFileSync(join("src", file), "utf8"))?.[1];
    if (store === undefined) continue;
    await import(new URL(`../${file}`, import.meta.url).href);
    found.set(file, listStatements().get(store) ?? []);
  }
  if (found.size !== listStatements().size) throw new Error("a file defines the statements of one store");
  return found;
}

function describeConstant({ name, text, keepsPlan }: Statement): string {
  return `-- ${name}${keepsPlan ? " (keeps its plan)" : ""}\n${withoutIndent(text)};`;
}

/** Removes the indent of the TypeScript source. */
function withoutIndent(text: string): string {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const indent = Math.min(...lines.map((line) => line.search(/\S/)));
  return lines.map((line) => line.slice(indent).trimEnd()).join("\n");
}

/** The row that answers every query: without these columns, some functions fail before their next query. */
const answer = { roles: [], total: 0 };

/** Returns the SQL that a call builds with Knex. No database is used: every query is answered with one row. */
async function recordTexts(run: (database: Database, transaction: Transaction) => unknown): Promise<readonly string[]> {
  const texts: string[] = [];
  const database = knex({ client: "pg" });
  const connection = {
    query({ text }: pg.QueryConfig, done: (error: null, result: object) => void) {
      texts.push(text);
      const command = text.split(" ", 1)[0]?.toUpperCase();
      done(null, { command, rows: [answer], rowCount: 1 });
    },
  };
  const client = database.client as knex.Knex.Client;
  client.acquireConnection = () => Promise.resolve(connection);
  client.releaseConnection = () => Promise.resolve();
  await run(database, database as unknown as Transaction);
  const constants = new Set([...listStatements().values()].flat().map(({ text }) => text));
  return texts.filter((text) => !constants.has(text));
}

const clauses =
  /(?<!epoch|delete) (?=(?:from|left join|where|group by|having|order by|limit|offset|union all|values|set|on conflict|returning|for update)\b)/g;

/** Starts a line at each clause, and indents lines within parentheses. */
function layOut(text: string): string {
  let depth = 0;
  return text
    .replaceAll(/\s+/g, " ")
    .replaceAll(clauses, "\n")
    .split("\n")
    .map((line) => {
      const indented = `${"  ".repeat(depth)}${line.trim()}`;
      depth += line.split("(").length - line.split(")").length;
      return indented;
    })
    .join("\n");
}

await writeSql();

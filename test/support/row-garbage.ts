/**
 * Prints by how many bytes the old generation grows with each list of rows that is read and dropped, after the program has
 * kept many short ones, as a server does when it starts. Argument: the URL of PostgreSQL.
 */
import { openDatabase } from "../../src/postgres/database.ts";
import { queryText } from "../../src/postgres/statements.ts";
import { oldBytes } from "./garbage-left.ts";

const lists = 1500;
const [url = ""] = process.argv.slice(2);
const database = openDatabase({ url, poolSize: 1, statementTimeoutMs: 10_000 });
const read = (rows: number) =>
  queryText(database, "select 'user_' || i as username, 'acme' as company from generate_series(1, $1) as i", [rows]);

const kept: unknown[] = [];
for (let list = 0; list < 20_000; list += 1) kept.push(await read(1));
kept.length = 0;
await readLists();
const before = oldBytes();
await readLists();
console.log(Math.round((oldBytes() - before) / lists));
process.exit();

async function readLists(): Promise<void> {
  for (let list = 0; list < lists; list += 1) await read(50);
}

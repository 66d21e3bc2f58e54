import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import pg from "pg";
import type { Line } from "../history/records.ts";
import { checkAnswers } from "./answers.ts";
import { checkBooks, checkCounters, checkRecorded, checkUsers, readRows } from "./books.ts";
import { createClock } from "./clock.ts";
import { collectOperations } from "./leases.ts";
import { checkLimits } from "./limits.ts";
import { createVerdicts, type Verdicts } from "./verdicts.ts";
import { createVersions } from "./versions.ts";

/**
 * Checks a history by the records of its callers and by SQL alone. It imports no code of the service.
 */
export async function checkHistory(historyFile: string, databaseUrl: string): Promise<Verdicts> {
  const lines = await readLines(historyFile);
  const verdicts = createVerdicts();
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const operations = collectOperations(lines, await readRows(client));
    const [start] = lines;
    const isCommit = start?.call === "start" && start.isCommit;
    const clock = createClock(lines);
    const versions = createVersions(lines);
    checkLimits({ operations, clock, versions, verdicts });
    checkAnswers({ operations, lines, clock, isCommit, verdicts });
    checkCounters(lines, operations, verdicts);
    const users = new Set(lines.filter((line) => line.call === "change").map(({ user }) => user));
    await checkUsers(client, versions, [...users], verdicts);
    await checkRecorded(client, lines, verdicts);
    await checkBooks(client, verdicts);
  } finally {
    await client.end();
  }
  return verdicts;
}

async function readLines(file: string): Promise<Line[]> {
  const lines: Line[] = [];
  for await (const line of createInterface({ input: createReadStream(file) })) lines.push(JSON.parse(line) as Line);
  return lines;
}

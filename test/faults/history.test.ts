import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { noOwnRedis } from "../support/redis.ts";
import { checkHistory } from "./check/check.ts";
import { type RunSummary, runHistory } from "./history/run.ts";

const number = (name: string, byDefault: number) => Number(process.env[name] ?? byDefault);
const operations = number("FAULTS_OPERATIONS", 12_000);
const faults = number("FAULTS_COUNT", 14);

test.skipIf(noOwnRedis !== "")(
  "all books are right after a history of faults, moves and days",
  { timeout: 60_000 + operations * 20 + faults * 60_000 },
  async () => {
    const { world, summary } = await runHistory({
      operations,
      faults,
      seed: number("FAULTS_SEED", 1),
      callers: number("FAULTS_CALLERS", 32),
      users: number("FAULTS_USERS", 12),
      settings: { LEDGER_ACK: process.env["FAULTS_ACK"] ?? "commit" },
      source: process.env["FAULTS_SOURCE"] ?? fileURLToPath(new URL("../..", import.meta.url)),
      only: process.env["FAULTS_ONLY"] ?? "",
    });
    try {
      const verdicts = await checkHistory(world.historyFile, world.databaseUrl);
      console.log([...describe(summary), ...verdicts.lines(), `history: ${world.historyFile}`].join("\n"));
      expect([...summary.troubles, ...verdicts.failures()]).toEqual([]);
    } finally {
      await world.stop();
    }
  },
);

function describe({ operations, seconds, faults, changes }: RunSummary): string[] {
  const list = (counts: ReadonlyMap<string, number>) =>
    [...counts].toSorted().map(([kind, count]) => `  ${count} × ${kind}`);
  const sum = (counts: ReadonlyMap<string, number>) => [...counts.values()].reduce((total, count) => total + count, 0);
  return [
    `${operations} operations in ${seconds.toFixed(1)} s: ${(operations / seconds).toFixed()} a second`,
    `${sum(faults)} faults`,
    ...list(faults),
    `${sum(changes)} changes of users`,
    ...list(changes),
  ];
}

import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { checkHistory } from "./check/check.ts";
import { type Guard, guards, withoutGuard } from "./guards.ts";
import { optionsOf, runHistory, timeoutOf } from "./history/run.ts";

/** Attempts per guard: the loss of some guards shows only in a rare order of events. */
const seeds = [1, 2, 3];
/** `npm run test:faults:guards` takes minutes for each guard. FAULTS_GUARDS selects guards by a part of their names. */
const selected = process.env["FAULTS_GUARDS"];
const chosen = guards.filter(({ name }) => selected !== undefined && name.includes(selected));
const size = { ...optionsOf(process.env), operations: 5000, faults: 8, users: 6 };

test.each(guards)("there is a guard to switch off: $name", async ({ file, find }) => {
  const text = await readFile(new URL(`../../${file}`, import.meta.url), "utf8");
  expect(text.split(find)).toHaveLength(2);
});

test.each(chosen)(
  "a history without a guard is red: $name",
  { timeout: timeoutOf(size) * seeds.length },
  async (guard) => {
    const { folder, remove } = await withoutGuard(guard);
    try {
      for (const seed of seeds) {
        const failures = await failuresOf(folder, guard, seed);
        console.log([`without "${guard.name}", seed ${seed}:`, ...failures.map((line) => `  ${line}`)].join("\n"));
        if (failures.length === 0) continue;
        const checks = new Set(failures.map((line) => line.split(" (")[0]));
        console.log(`"${guard.name}" off: red by ${[...checks].join(", ")}`);
        return;
      }
      expect.fail(`every history is green without "${guard.name}"`);
    } finally {
      await remove();
    }
  },
);

async function failuresOf(
  source: string,
  { faults: only, changePauseMs = size.changePauseMs }: Guard,
  seed: number,
): Promise<string[]> {
  const { world, summary } = await runHistory({ ...size, changePauseMs, seed, source, only });
  try {
    const verdicts = await checkHistory(world.historyFile, world.databaseUrl);
    await world.removeHistory();
    return [...summary.troubles, ...verdicts.failures()].map((line) => line.slice(0, 300));
  } finally {
    await world.stop();
  }
}

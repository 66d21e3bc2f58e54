import { pino } from "pino";
import { expect, test } from "vitest";
import { createGroupCommit } from "../../src/postgres/group-commit.ts";
import { garbageLeftBy, smallCollections } from "../support/garbage-left.ts";

test("an entry that exceeds the size of a batch is written in the next one, beside it", async () => {
  const written: number[][] = [];
  let finish = () => undefined as void;
  const finished = new Promise<void>((resolve) => (finish = resolve));
  const { commit } = createGroupCommit<number>({
    name: "the numbers",
    logger: pino({ level: "silent" }),
    maxInFlight: 2,
    batchSize: 3,
    sizeOf: (entry) => entry,
    describe: (entry) => ({ entry }),
    async write(entries) {
      written.push([...entries]);
      await finished;
      return entries.map(() => undefined);
    },
  });
  const all = Promise.all([1, 2, 5, 1].map(commit));
  await expect.poll(() => written).toEqual([[1, 2], [5]]);
  finish();
  await all;
  expect(written).toEqual([[1, 2], [5], [1]]);
});

test("committed entries do not stay in memory until the next full garbage collection", async () => {
  // An entry takes 2 KB.
  expect(await garbageLeftBy(smallCollections, "work-garbage.ts", "commit")).toBeLessThan(500);
});

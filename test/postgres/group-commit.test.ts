import { pino } from "pino";
import { expect, test } from "vitest";
import { createGroupCommit } from "../../src/postgres/group-commit.ts";

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

/**
 * Opens a queue that merges texts with the same first letter. `written` gets its batches.
 * @param onWrite called while a batch is written, with the number of batches so far
 */
function openMerging(
  options: { readonly holdMs?: number; readonly batchSize?: number },
  onWrite: (batches: number) => void = () => undefined,
) {
  const written: string[][] = [];
  const queue = createGroupCommit<string>({
    ...options,
    name: "the texts",
    logger: pino({ level: "silent" }),
    merging: { keyOf: ([key = ""]) => key, merge: (earlier, later) => `${earlier}, ${later}` },
    describe: (entry) => ({ entry }),
    async write(entries) {
      onWrite(written.push([...entries]));
      return entries.map(() => undefined);
    },
  });
  return { ...queue, written };
}

test("an entry is merged into a waiting one after another batch was taken, and never into a batch that was taken", async () => {
  const { append, commit, flush, written } = openMerging({ holdMs: 600_000 });
  append("a1");
  await commit("b1");
  append("a2");
  append("b2");
  await flush();
  expect(written).toEqual([["b1"], ["a1, a2", "b2"]]);
});

test("entries of a long queue are merged while they wait", async () => {
  const { append, flush, written } = openMerging({ batchSize: 2 }, (batches) => {
    if (batches === 1) ["a2", "d2", "f2"].forEach((entry) => append(entry));
  });
  for (const entry of ["a1", "b1", "c1", "d1", "e1", "f1"]) append(entry);
  await flush();
  await flush();
  expect(written).toEqual([["a1", "b1"], ["c1", "d1, d2"], ["e1", "f1, f2"], ["a2"]]);
});

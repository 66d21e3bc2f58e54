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

test("an entry is merged into a waiting one after another batch was taken, and never into a batch that was taken", async () => {
  const written: string[][] = [];
  const { append, commit, flush } = createGroupCommit<string>({
    name: "the texts",
    logger: pino({ level: "silent" }),
    holdMs: 600_000,
    merging: { keyOf: ([key = ""]) => key, merge: (earlier, later) => `${earlier}, ${later}` },
    describe: (entry) => ({ entry }),
    async write(entries) {
      written.push([...entries]);
      return entries.map(() => undefined);
    },
  });
  append("a1");
  await commit("b1");
  append("a2");
  append("b2");
  await flush();
  expect(written).toEqual([["b1"], ["a1, a2", "b2"]]);
});

test("entries of a long queue are merged while they wait", async () => {
  const written: string[][] = [];
  const { append, flush } = createGroupCommit<string>({
    name: "the texts",
    logger: pino({ level: "silent" }),
    batchSize: 2,
    merging: { keyOf: ([key = ""]) => key, merge: (earlier, later) => `${earlier}, ${later}` },
    describe: (entry) => ({ entry }),
    async write(entries) {
      if (written.push([...entries]) === 1) for (const entry of ["a2", "d2", "f2"]) append(entry);
      return entries.map(() => undefined);
    },
  });
  for (const entry of ["a1", "b1", "c1", "d1", "e1", "f1"]) append(entry);
  await flush();
  await flush();
  expect(written).toEqual([["a1", "b1"], ["c1", "d1, d2"], ["e1", "f1, f2"], ["a2"]]);
});

import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { inBulkPieces, pauseBulkWork } from "../../src/shared/bulk-work.ts";

test("a call that takes four turns of the event loop waits for two pieces at most, however many lists are read", async () => {
  let pieces = 0;
  const read = async () => {
    for (let piece = 0; piece < 10; piece += 1) {
      await pauseBulkWork();
      pieces += 1;
    }
  };
  const lists = Promise.all([read(), read(), read()]);
  for (let call = 0; call < 20; call += 1) {
    const before = pieces;
    for (let turn = 0; turn < 4; turn += 1) await nextTurn();
    expect(pieces - before).toBeLessThanOrEqual(2);
  }
  await lists;
  expect(pieces).toBe(30);
});

test("yields all rows in order, in pieces of 100", async () => {
  const rows = Array.from({ length: 250 }, (_none, index) => index);
  const pieces: number[][] = [];
  for await (const piece of inBulkPieces(rows)) pieces.push(piece);
  expect(pieces.map(({ length }) => length)).toEqual([100, 100, 50]);
  expect(pieces.flat()).toEqual(rows);
});

import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { createRunningWork } from "../../src/shared/running-work.ts";

/** Begins work that ends when resolve or reject is called. */
function begin({ track }: ReturnType<typeof createRunningWork>) {
  let [resolve, reject] = [(_result: string): void => undefined, (_error: Error): void => undefined];
  const work = new Promise<string>((...ends) => ([resolve, reject] = ends));
  return { resolve, reject, tracked: track(work) };
}

/** Whether a promise has resolved after this turn of the event loop. */
async function isResolved(promise: Promise<void>): Promise<boolean> {
  let resolved = false;
  void promise.then(() => (resolved = true));
  await nextTurn();
  return resolved;
}

test("waits for the work that runs, and not for later work", async () => {
  const running = createRunningWork();
  await running.ended();
  const [first, second] = [begin(running), begin(running)];
  const ended = running.ended();
  const later = begin(running);
  first.resolve("first");
  expect(await isResolved(ended)).toBe(false);
  second.resolve("second");
  expect(await isResolved(ended)).toBe(true);
  expect(await isResolved(running.ended())).toBe(false);
  later.resolve("later");
  expect(await Promise.all([first.tracked, second.tracked, later.tracked])).toEqual(["first", "second", "later"]);
});

test("a second caller waits for earlier work too", async () => {
  const running = createRunningWork();
  const earlier = begin(running);
  const ended = [running.ended(), running.ended()];
  const later = begin(running);
  ended.push(running.ended());
  later.resolve("later");
  expect(await Promise.all(ended.map(isResolved))).toEqual([false, false, false]);
  earlier.resolve("earlier");
  expect(await Promise.all(ended.map(isResolved))).toEqual([true, true, true]);
});

test("work that fails has ended, and its caller gets the error", async () => {
  const running = createRunningWork();
  const failing = begin(running);
  const ended = running.ended();
  failing.reject(new Error("failed"));
  await expect(failing.tracked).rejects.toThrow("failed");
  expect(await isResolved(ended)).toBe(true);
});

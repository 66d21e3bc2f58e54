import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createPacedRefusals } from "../../../src/accounts/auth/paced-refusals.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const never = () => new AbortController().signal;

test("answers refusals one at a time at the configured rate", async () => {
  const refusals = createPacedRefusals({ perSecond: 100 });
  let answered = 0;
  for (let index = 0; index < 301; index += 1) void refusals.wait(never()).then(() => (answered += 1));
  await vi.advanceTimersByTimeAsync(0);
  expect(answered).toBe(1);
  await vi.advanceTimersByTimeAsync(10);
  expect(answered).toBe(2);
  await vi.advanceTimersByTimeAsync(990);
  expect(answered).toBe(101);
  await vi.advanceTimersByTimeAsync(2000);
  expect(answered).toBe(301);
  refusals.stop();
});

test("answers the newest refusal first, and beside it one that has waited too long", async () => {
  const refusals = createPacedRefusals({ perSecond: 10, maxWaitMs: 1000 });
  const answered: string[] = [];
  const wait = (name: string) => void refusals.wait(never()).then(() => answered.push(name));
  const flood = setInterval(() => wait("flood"), 100);
  wait("at once");
  wait("oldest");
  await vi.advanceTimersByTimeAsync(950);
  expect(answered).toEqual(["at once", ...Array.from({ length: 9 }, () => "flood")]);
  await vi.advanceTimersByTimeAsync(200);
  expect(answered).toContain("oldest");
  clearInterval(flood);
  refusals.stop();
});

test("releases a caller at once when it leaves, when the queue is full and at the stop", async () => {
  const refusals = createPacedRefusals({ perSecond: 20, capacity: 2 });
  const leaving = new AbortController();
  const answered: string[] = [];
  const wait = (name: string, signal = never()) => void refusals.wait(signal).then(() => answered.push(name));
  wait("at once");
  wait("leaves", leaving.signal);
  wait("stays");
  wait("too many");
  await vi.advanceTimersByTimeAsync(0);
  expect(answered).toEqual(["at once", "too many"]);
  leaving.abort();
  await vi.advanceTimersByTimeAsync(0);
  expect(answered).toEqual(["at once", "too many", "leaves"]);
  wait("takes the free place");
  await vi.advanceTimersByTimeAsync(0);
  expect(answered).toEqual(["at once", "too many", "leaves"]);
  refusals.stop();
  await vi.advanceTimersByTimeAsync(0);
  wait("after the end");
  await vi.advanceTimersByTimeAsync(0);
  expect(answered.slice(3)).toEqual(["stays", "takes the free place", "after the end"]);
});

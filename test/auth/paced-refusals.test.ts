import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createPacedRefusals } from "../../src/auth/paced-refusals.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const never = () => new AbortController().signal;

test("refusals are answered at the pace, however many ask", async () => {
  const refusals = createPacedRefusals({ perSecond: 100 });
  let answered = 0;
  for (let index = 0; index < 300; index += 1) void refusals.wait(never()).then(() => (answered += 1));
  await vi.advanceTimersByTimeAsync(0);
  expect(answered).toBe(5);
  await vi.advanceTimersByTimeAsync(1000);
  expect(answered).toBe(105);
  await vi.advanceTimersByTimeAsync(2000);
  expect(answered).toBe(300);
  refusals.stop();
});

test("whoever leaves, comes when too many wait, or is there at the end, waits no longer", async () => {
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
  refusals.stop();
  await vi.advanceTimersByTimeAsync(0);
  wait("after the end");
  await vi.advanceTimersByTimeAsync(0);
  expect(answered).toEqual(["at once", "too many", "leaves", "stays", "after the end"]);
});

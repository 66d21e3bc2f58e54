import { expect, test } from "vitest";
import { createLoginSlots } from "../../../src/accounts/auth/login-slots.ts";

const never = new AbortController().signal;

/** Work that ends when the test says so. */
function held() {
  const started: string[] = [];
  const ends: (() => void)[] = [];
  return {
    started,
    work: (name: string) => () => {
      started.push(name);
      return new Promise<void>((resolve) => ends.push(resolve));
    },
    async endNext() {
      ends.shift()?.();
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

test("runs at most as many logins as there are slots, and alternates between networks", async () => {
  const slots = createLoginSlots({ concurrency: 1 });
  const { started, work, endNext } = held();
  const names = ["a1", "a2", "a3", "a4", "b1", "c1"];
  const all = names.map((name) => slots.run({ network: name[0] ?? "", signal: never }, work(name)));
  await new Promise((resolve) => setImmediate(resolve));
  expect(started).toEqual(["a1"]);
  for (const _ of names) await endNext();
  await Promise.all(all);
  expect(started).toEqual(["a1", "a2", "b1", "c1", "a3", "a4"]);
});

test("bounds the queue in total and per network, and frees the place of an aborted login", async () => {
  const slots = createLoginSlots({ concurrency: 1, queue: 3, queueOfNetwork: 2 });
  const { started, work, endNext } = held();
  const leaving = new AbortController();
  const run = (network: string, signal = never) => slots.run({ network, signal }, work(network));
  const first = run("a");
  const second = run("a", leaving.signal);
  const third = run("a");
  await expect(run("a")).rejects.toThrow("too many logins at once");
  const fourth = run("b");
  await expect(run("c")).rejects.toThrow("too many logins at once");
  leaving.abort(new Error("gone"));
  await expect(second).rejects.toThrow("gone");
  const fifth = run("c");
  for (let round = 0; round < 4; round += 1) await endNext();
  await Promise.all([first, third, fourth, fifth]);
  expect(started).toEqual(["a", "a", "b", "c"]);
});

test("frees the slot of a login that fails", async () => {
  const slots = createLoginSlots({ concurrency: 1 });
  const failing = () => Promise.reject(new Error("wrong"));
  await expect(slots.run({ network: "a", signal: never }, failing)).rejects.toThrow("wrong");
  expect(await slots.run({ network: "a", signal: never }, async () => "served")).toBe("served");
});

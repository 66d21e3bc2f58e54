import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createFreshCache } from "../../src/shared/cache.ts";

/** The cache looks at its clock again when a timer says so. */
beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] }));
afterEach(() => void vi.useRealTimers());
const now = () => Date.now();

interface Loading {
  resolve(value: { readonly version: number } | undefined): void;
  reject(error: Error): void;
}

/** A cache, and the loads that it has begun. */
function create() {
  const loads: Loading[] = [];
  const load = () => new Promise<{ version: number } | undefined>((resolve, reject) => loads.push({ resolve, reject }));
  return { cache: createFreshCache({ load, max: 10, now }), loads };
}

async function createLoaded() {
  const { cache, loads } = create();
  const first = cache.get("key");
  loads[0]?.resolve({ version: 1 });
  await first;
  return { cache, loads };
}

test("what is loaded is there for those who ask meanwhile and later", async () => {
  const { cache, loads } = create();
  const both = Promise.all([cache.get("key"), cache.get("key")]);
  loads[0]?.resolve({ version: 1 });
  expect(await both).toEqual([{ version: 1 }, { version: 1 }]);
  expect([cache.peek("key"), loads.length]).toEqual([{ version: 1 }, 1]);
});

test("what cannot be loaded, and was not before, is an error: it is not known that there is none", async () => {
  const { cache, loads } = create();
  const asked = cache.get("key");
  loads[0]?.reject(new Error("away"));
  await expect(asked).rejects.toThrow("away");
});

test("what is not there is asked for again", async () => {
  const { cache, loads } = create();
  const asked = cache.get("key");
  loads[0]?.resolve(undefined);
  expect(await asked).toBeUndefined();
  const again = cache.get("key");
  loads[1]?.resolve({ version: 1 });
  expect(await again).toEqual({ version: 1 });
});

test("an old value serves on while it cannot be loaded, and nobody waits for each attempt", async () => {
  const { cache, loads } = await createLoaded();
  vi.advanceTimersByTime(6000);
  expect(cache.peek("key")).toBeUndefined();
  const late = cache.get("key");
  loads[1]?.reject(new Error("away"));
  expect([await late, cache.peek("key")]).toEqual([{ version: 1 }, { version: 1 }]);
  vi.advanceTimersByTime(6000);
  const back = cache.get("key");
  loads[2]?.resolve({ version: 2 });
  expect(await back).toEqual({ version: 2 });
});

test("a value in use is loaded again before it is old; a failure of that is nobody's", async () => {
  const { cache, loads } = await createLoaded();
  for (let attempt = 1; attempt < 5; attempt += 1) {
    vi.advanceTimersByTime(4000);
    expect(cache.peek("key")).toEqual({ version: 1 });
    expect(loads).toHaveLength(attempt + 1);
    loads[attempt]?.reject(new Error("away"));
    await nextTurn();
  }
  vi.advanceTimersByTime(4000);
  expect(cache.peek("key")).toEqual({ version: 1 });
  loads[5]?.resolve({ version: 2 });
  await nextTurn();
  expect(cache.peek("key")).toEqual({ version: 2 });
});

test.each(["forget", "forgetAll"] as const)(
  "%s while it loads: who asked before has it, the next one reads again",
  async (how) => {
    const { cache, loads } = create();
    const before = cache.get("key");
    cache[how]("key");
    const after = cache.get("key");
    loads[0]?.resolve({ version: 1 });
    expect(await before).toEqual({ version: 1 });
    expect(cache.peek("key")).toBeUndefined();
    loads[1]?.resolve({ version: 2 });
    expect(await after).toEqual({ version: 2 });
    expect(cache.peek("key")).toEqual({ version: 2 });
  },
);

test("an old value that was forgotten does not serve on", async () => {
  const { cache, loads } = await createLoaded();
  vi.advanceTimersByTime(6000);
  const asked = cache.get("key");
  cache.forget("key");
  loads[1]?.reject(new Error("away"));
  await expect(asked).rejects.toThrow("away");
});

test("what is gone when it is loaded again is gone", async () => {
  const { cache, loads } = await createLoaded();
  vi.advanceTimersByTime(6000);
  const asked = cache.get("key");
  loads[1]?.resolve(undefined);
  expect([await asked, cache.peek("key")]).toEqual([undefined, undefined]);
});

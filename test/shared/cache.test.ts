import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createFreshCache } from "../../src/shared/cache.ts";

/** The cache reads its clock when a timer fires, so both are fake. */
beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] }));
afterEach(() => void vi.useRealTimers());
const now = () => Date.now();

interface Loading {
  resolve(value: { readonly version: number } | undefined): void;
  reject(error: Error): void;
}

/** Creates a cache and the list of the loads that it started, oldest first. */
function createCache(unnoticedMs?: () => number) {
  const loads: Loading[] = [];
  const load = () => new Promise<{ version: number } | undefined>((resolve, reject) => loads.push({ resolve, reject }));
  return { cache: createFreshCache({ load, max: 10, now, ...(unnoticedMs && { unnoticedMs }) }), loads };
}

async function createLoaded(unnoticedMs?: () => number) {
  const { cache, loads } = createCache(unnoticedMs);
  const first = cache.get("key");
  loads[0]?.resolve({ version: 1 });
  await first;
  return { cache, loads };
}

test("concurrent and later reads share one load", async () => {
  const { cache, loads } = createCache();
  const both = Promise.all([cache.get("key"), cache.get("key")]);
  loads[0]?.resolve({ version: 1 });
  expect(await both).toEqual([{ version: 1 }, { version: 1 }]);
  expect([cache.peek("key"), loads.length]).toEqual([{ version: 1 }, 1]);
});

test("a first load that fails rejects the read, because absence is not proven", async () => {
  const { cache, loads } = createCache();
  const read = cache.get("key");
  loads[0]?.reject(new Error("away"));
  await expect(read).rejects.toThrow("away");
});

test("an absent value is loaded again at the next read", async () => {
  const { cache, loads } = createCache();
  const read = cache.get("key");
  loads[0]?.resolve(undefined);
  expect(await read).toBeUndefined();
  const again = cache.get("key");
  loads[1]?.resolve({ version: 1 });
  expect(await again).toEqual({ version: 1 });
});

test("a stale value is served while loads fail, and later reads do not wait for an attempt", async () => {
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

test("a value in use is refreshed before it is stale, and a failed refresh reaches no reader", async () => {
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
  "%s during a load: the earlier read gets the value, the next read loads again",
  async (how) => {
    const { cache, loads } = createCache();
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

test("while every change is notified, a value is fresh for a minute, and reloaded before", async () => {
  const { cache, loads } = await createLoaded(() => 0);
  vi.advanceTimersByTime(35_000);
  expect([cache.peek("key"), loads.length]).toEqual([{ version: 1 }, 1]);
  vi.advanceTimersByTime(5000);
  expect([cache.peek("key"), loads.length]).toEqual([{ version: 1 }, 2]);
  vi.advanceTimersByTime(21_000);
  expect(cache.peek("key")).toBeUndefined();
});

test("when changes go unnoticed, an old value is fresh for five seconds more, and reloaded before", async () => {
  let lostMs = Number.POSITIVE_INFINITY;
  const { cache, loads } = await createLoaded(() => Math.max(0, now() - lostMs));
  vi.advanceTimersByTime(30_000);
  lostMs = now();
  vi.advanceTimersByTime(2000);
  expect([cache.peek("key"), loads.length]).toEqual([{ version: 1 }, 1]);
  vi.advanceTimersByTime(2000);
  expect([cache.peek("key"), loads.length]).toEqual([{ version: 1 }, 2]);
  vi.advanceTimersByTime(2000);
  expect(cache.peek("key")).toBeUndefined();
});

test("a stale value is not served after it was forgotten", async () => {
  const { cache, loads } = await createLoaded();
  vi.advanceTimersByTime(6000);
  const read = cache.get("key");
  cache.forget("key");
  loads[1]?.reject(new Error("away"));
  await expect(read).rejects.toThrow("away");
});

test("a value that a reload does not find is no longer served", async () => {
  const { cache, loads } = await createLoaded();
  vi.advanceTimersByTime(6000);
  const read = cache.get("key");
  loads[1]?.resolve(undefined);
  expect([await read, cache.peek("key")]).toEqual([undefined, undefined]);
});

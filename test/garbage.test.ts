import { expect, test } from "vitest";
import { garbageLeftBy, smallCollections } from "./support/garbage-left.ts";

test("calls do not stay in memory until the next full garbage collection", async () => {
  const left = await garbageLeftBy(["--max-semi-space-size=1"], "garbage.ts");
  // A call that stays takes 4 KB.
  expect(left).toBeGreaterThan(0);
  expect(left).toBeLessThan(2000);
});

test.each([
  ["commit", "committed entries"],
  ["track", "ended work"],
  ["enter", "ended calls without a token"],
])("%s: %s do not stay in memory until the next full garbage collection", async (kind) => {
  // Each refers to 2 KB.
  expect(await garbageLeftBy(smallCollections, "work-garbage.ts", kind)).toBeLessThan(200);
});

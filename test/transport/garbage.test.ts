import { expect, test } from "vitest";
import { garbageLeftBy } from "../support/garbage-left.ts";

test("calls do not stay in memory until the next full garbage collection", async () => {
  const left = await garbageLeftBy(["--max-semi-space-size=1"], "garbage.ts");
  // A call that stays takes 4 KB.
  expect(left).toBeGreaterThan(0);
  expect(left).toBeLessThan(2000);
});

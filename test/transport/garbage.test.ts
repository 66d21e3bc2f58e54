import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";

test("calls do not stay in memory until the next full garbage collection", async () => {
  // Many small collections, and no full one.
  const options = ["--max-semi-space-size=1", "--initial-old-space-size=256", "--import", "tsx"];
  const { stdout } = await promisify(execFile)(process.execPath, [...options, "test/support/garbage.ts"]);
  // A call that stays takes 4 KB.
  expect(Number(stdout)).toBeGreaterThan(0);
  expect(Number(stdout)).toBeLessThan(2000);
});

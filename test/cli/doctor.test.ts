import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { isSupportedNode } from "../../src/cli/doctor.ts";

test("doctor accepts the versions of Node that the package names", () => {
  const { engines } = JSON.parse(readFileSync("package.json", "utf8"));
  expect(engines.node).toBe(">=20.19.2 <25");
  expect(["20.19.2", "20.20.0", "22.0.0", "24.21.0"].filter(isSupportedNode)).toHaveLength(4);
  expect(["18.20.8", "20.9.4", "20.18.3", "20.19.1", "25.0.0"].filter(isSupportedNode)).toEqual([]);
});

import { expect, it } from "vitest";
import { createTestDatabase } from "../support/database.ts";
it("times", async () => {
  for (let i = 0; i < 4; i++) { const t = performance.now(); const d = await createTestDatabase(); const u = performance.now(); await d.drop(); console.log("clone", (u - t).toFixed(0), "drop", (performance.now() - u).toFixed(0)); }
  const t = performance.now();
  const all = await Promise.all(Array.from({ length: 10 }, () => createTestDatabase()));
  console.log("10 at once", (performance.now() - t).toFixed(0));
  await Promise.all(all.map((d) => d.drop()));
  expect(1).toBe(1);
});

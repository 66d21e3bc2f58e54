import { existsSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startProcess } from "../support/process.ts";
import { runTour } from "../support/tour.ts";

test("after npm start every command of the tour prints the output on its page", {
  timeout: 120_000,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-tour-"));
  await chmod(folder, 0o711);
  const server = await startProcess({ DATA_DIR: folder }, ["npm", "start"]);
  try {
    const steps = runTour({ url: server.url, passwordFile: join(folder, "admin.password") });
    expect(steps.length).toBeGreaterThan(10);
    for (const { written, printed } of steps) expect(printed).toBe(written);
  } finally {
    await server.end();
    // The signal ends npm itself. The folder of the database shows that the server behind it shut down in order.
    await expect.poll(() => existsSync(join(folder, "postgres", "postmaster.pid"))).toBe(false);
    await rm(folder, { recursive: true });
  }
});

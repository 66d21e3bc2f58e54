import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startProcess } from "../support/process.ts";

interface Step {
  readonly command: string;
  /** The output that the page prints below it. */
  readonly prints: string;
}

/** The commands of the tour: those of the README, then those of docs/tour.md, which continue them. */
function tour(): Step[] {
  const pages = ["README.md", "docs/tour.md"].map((page) => readFileSync(page, "utf8")).join("\n");
  const blocks = pages.matchAll(/```console\n([\s\S]*?)```/g);
  return [...blocks].flatMap(([, block = ""]) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((step) => ({ command: step.slice(0, step.indexOf("\n")), prints: step.slice(step.indexOf("\n") + 1) })),
  );
}

test("after npm start every command of the tour prints the output on its page", {
  timeout: 120_000,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-tour-"));
  await chmod(folder, 0o711);
  const server = await startProcess({ DATA_DIR: folder }, ["npm", "start"]);
  const steps = tour();
  try {
    const mark = "=== end of step ===";
    const script = steps
      .map(({ command }) => `${command}\nprintf '\\n${mark}\\n'`)
      .join("\n")
      .replace(".tollgate/admin.password", join(folder, "admin.password"))
      .replaceAll("http://127.0.0.1:8080", server.url);
    const { stdout } = spawnSync("bash", ["-c", script], { encoding: "utf8" });
    const printed = stdout.split(`${mark}\n`).map((output) => output.trim());
    expect(steps.length).toBeGreaterThan(10);
    for (const [index, { command, prints }] of steps.entries()) {
      expect(`$ ${command}\n${printed[index]}`).toBe(`$ ${command}\n${prints.trim()}`);
    }
  } finally {
    await server.end();
    // The signal ends npm itself. The folder of the database shows that the server behind it shut down in order.
    await expect.poll(() => existsSync(join(folder, "postgres", "postmaster.pid"))).toBe(false);
    await rm(folder, { recursive: true });
  }
});

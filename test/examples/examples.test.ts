import { execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Examples, password, readExample, startExamples } from "./fixture.ts";

const isThere = (program: string, ...parameters: string[]) => spawnSync(program, parameters).status === 0;
const python = ["python3", "/usr/bin/python3"].find((program) =>
  isThere(program, "-c", "import grpc, google.protobuf"),
);
/** The reason to skip a test, or empty. `.ci/run` counts a skip as a failure. */
const skipped = {
  python:
    python !== undefined && isThere("protoc", "--version") ? "" : "skipped: install protobuf-compiler python3-grpcio",
  curl: isThere("jq", "--version") && isThere("curl", "--version") ? "" : "skipped: install curl jq",
  browser: isThere("/usr/bin/chromium", "--version") ? "" : "skipped: install chromium",
};

let examples: Examples;
beforeAll(async () => {
  examples = await startExamples();
});
afterAll(() => examples.stop());

/** Runs the commands of an example's README for a new user. Returns what they print, and what the README prints. */
async function runReadme(name: string, username: string, replaced: readonly (readonly [string, string])[] = []) {
  await examples.createUser(username);
  const { commands, prints } = await readExample(`examples/${name}/README.md`);
  const addressed = commands
    .join("\n")
    .replace("http://127.0.0.1:8080", examples.url)
    .replace("127.0.0.1:8080", new URL(examples.url).host)
    .replace("planner anna", `planner ${username}`);
  const script = replaced.reduce((text, [from, to]) => text.replace(from, to), addressed);
  const { stdout } = await promisify(execFile)("bash", ["-ec", script], { cwd: examples.folder });
  return { stdout, prints, count: commands.length };
}

test("examples/typescript prints the output in its README", async () => {
  // The client package is made of the sources of the repository, and installed in the copy of the example.
  const copy = join(examples.folder, "examples", "typescript");
  const pack = "npm pack --silent ./client --pack-destination examples/typescript";
  const { stdout, prints } = await runReadme("typescript", "tara", [
    [pack, `(cd '${process.cwd()}' && npm pack --silent ./client --pack-destination '${copy}')`],
  ]);
  expect(stdout).toBe(prints);
  expect(await examples.readUsage("tara")).toEqual({ used: 150, reserved: 0 });
});

describe.skipIf(skipped.curl !== "")(`examples/curl ${skipped.curl}`, () => {
  test("prints the output in its README", async () => {
    const { stdout, prints } = await runReadme("curl", "carla");
    expect(stdout).toBe(prints);
    expect(await examples.readUsage("carla")).toEqual({ used: 250, reserved: 0 });
  });
});

describe.skipIf(skipped.python !== "")(`examples/python ${skipped.python}`, () => {
  test("prints the output in its README, with the code that the README's commands generate", async () => {
    const { stdout, prints, count } = await runReadme("python", "petra", [
      ["python3 planner.py", `${python} planner.py`],
    ]);
    expect(count).toBe(5);
    const generated = join(examples.folder, "examples", "python", "generated");
    expect((await readdir(generated)).toSorted()).toEqual(["buf", "gateway", "google", "tollgate"]);
    expect((await readdir(join(generated, "google"))).toSorted()).toEqual(["api", "rpc"]);
    // It is between 12:00 and 13:00 for the user, and the day ends at midnight.
    const retryAfter = Number(/retry after: (\d+) seconds/.exec(stdout)?.[1]);
    expect(retryAfter / 3600).toBeGreaterThan(10.9);
    expect(retryAfter / 3600).toBeLessThanOrEqual(12);
    const printed = stdout.replace(/lease \S+/, "lease …").replace(/after: \d+/, "after: …");
    expect(printed.replaceAll("petra", "anna")).toBe(prints);
    expect(await examples.readUsage("petra")).toEqual({ used: 250, reserved: 0 });
  });
});

describe.skipIf(skipped.browser !== "")(`examples/browser ${skipped.browser}`, () => {
  test("acquires and settles from its page, and shows the reason of a refusal", async () => {
    await examples.createUser("berta");
    const served = spawn(process.execPath, ["examples/browser/serve.mjs", examples.url], {
      env: { ...process.env, PORT: "0" },
    });
    const [line] = await once(served.stdout, "data");
    const browser = await chromium.launch({
      executablePath: "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-gpu"],
    });
    try {
      const page = await browser.newPage();
      await page.goto(/http:\S+/.exec(String(line))?.[0] ?? "");
      const plan = async (points: number) => {
        await page.fill("[name=login]", "planner");
        await page.fill("[name=password]", password);
        await page.fill("[name=username]", "berta");
        await page.fill("[name=points]", String(points));
        await page.click("button");
      };
      const steps = () => page.locator("#steps li").allTextContents();
      await plan(300);
      await expect.poll(steps).toEqual(["granted: 300 points", "settled: 150 points"]);
      await plan(1600);
      await expect.poll(steps).toEqual([expect.stringMatching(/^DAILY_POINTS_EXCEEDED: points_per_day: 1600 points/)]);
      expect(await examples.readUsage("berta")).toEqual({ used: 150, reserved: 0 });
    } finally {
      await browser.close();
      served.kill();
    }
  });
});

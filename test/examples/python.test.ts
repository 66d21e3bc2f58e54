import { execFile, spawnSync } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";

const python = ["python3", "/usr/bin/python3"].find(
  (program) => spawnSync(program, ["-c", "import grpc, google.protobuf"]).status === 0,
);
const hasProtoc = spawnSync("protoc", ["--version"]).status === 0;
/** The reason to skip the tests, or empty. `.ci/run` counts a skip as a failure. */
const skipReason = hasProtoc && python !== undefined ? "" : "skipped: install protobuf-compiler python3-grpcio";
const password = "a password of the planner";

describe.skipIf(skipReason !== "")(`examples/python ${skipReason}`, () => {
  let app: TestApp;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tollgate-python-"));
    await Promise.all(["proto", "gen", "examples"].map((name) => cp(name, join(folder, name), { recursive: true })));
    app = await startTestApp();
    await app.user({ username: "planner", password, roles: ["BOT"] });
    // It is noon in anna's timezone: no midnight falls between two calls.
    await app.user({ username: "anna", timezone: 12 - new Date().getUTCHours() });
    const methods = [{ method_group: "PLAN", points_per_day: 1500 }];
    const body = { services: [{ service: "UNIVERSAL", methods }] };
    const { status } = await app.http("PUT", "/admin/quotas/anna", { token: app.admin, body });
    if (status !== 204) throw new Error(`quotas of anna: ${status}`);
  });
  afterAll(async () => {
    await app.stop();
    await rm(folder, { recursive: true });
  });

  test("prints the output in its README, with the code that the README's commands generate", async () => {
    const { commands, prints } = readExample(await readFile("examples/python/README.md", "utf8"));
    expect(commands.length).toBe(5);
    const script = commands
      .join("\n")
      .replace("the password of planner", password)
      .replace("127.0.0.1:8080", new URL(app.url).host)
      .replace("python3 planner.py", `${python} planner.py`);
    const { stdout } = await promisify(execFile)("bash", ["-ec", script], { cwd: folder });
    const generated = join(folder, "examples", "python", "generated");
    expect((await readdir(generated)).toSorted()).toEqual(["buf", "gateway", "google", "tollgate"]);
    expect((await readdir(join(generated, "google"))).toSorted()).toEqual(["api", "rpc"]);
    // It is between 12:00 and 13:00 for anna, and the day ends at midnight.
    const retryAfter = Number(/retry after: (\d+) seconds/.exec(stdout)?.[1]);
    expect(retryAfter / 3600).toBeGreaterThan(10.9);
    expect(retryAfter / 3600).toBeLessThanOrEqual(12);
    expect(stdout.replace(/lease \S+/, "lease …").replace(/after: \d+/, "after: …")).toBe(prints);

    const usage = await app.http("GET", "/quota/usage/anna", { token: app.admin });
    expect(JSON.stringify(usage.body)).toContain('"name":"POINTS_PER_DAY","limit":1500,"used":250,"reserved":0');
  });
});

/** Returns the commands of a README's console blocks, and their joined output. */
function readExample(text: string): { commands: string[]; prints: string } {
  const blocks = [...text.matchAll(/```console\n([\s\S]*?)```/g)].map(([, block = ""]) => block);
  const lines = blocks.join("").split(/(?<=\n)/);
  const isCommand = (line: string) => line.startsWith("$ ");
  return {
    commands: lines.filter(isCommand).map((line) => line.slice(2).trimEnd()),
    prints: lines.filter((line) => !isCommand(line)).join(""),
  };
}

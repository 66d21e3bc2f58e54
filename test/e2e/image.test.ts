import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Closers, closeAll } from "../../src/app/closers.ts";
import { createTestDatabase } from "../support/database.ts";
import { environmentOf, runDockerfile, type Stage } from "../support/dockerfile.ts";
import { type ServerProcess, startProcess } from "../support/process.ts";
import { noOwnRedis, startRedis } from "../support/redis.ts";
import { runTour } from "../support/tour.ts";

/** A user without rights. As root, the test drops its own: root may write everywhere. */
const asOther =
  process.getuid?.() === 0
    ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
    : [];

describe.skipIf(noOwnRedis !== "")(`the image of the Dockerfile ${noOwnRedis}`, () => {
  const closers: Closers = [];
  let stages: Stage[];
  let image: Stage;
  let folder: string;
  let server: ServerProcess;
  beforeAll(async () => {
    stages = runDockerfile("Dockerfile");
    for (const { root } of stages) closers.push(async () => rmSync(root, { recursive: true }));
    image = stages.at(-1) as Stage;
    spawnSync("chmod", ["-R", "a-w", join(image.root, image.folder)]);
    closers.push(async () => void spawnSync("chmod", ["-R", "u+w", join(image.root, image.folder)]));
    const database = await createTestDatabase();
    closers.push(() => database.drop());
    const redis = await startRedis();
    closers.push(() => redis.kill());
    folder = mkdtempSync(join(tmpdir(), "tollgate-tour-"));
    closers.push(async () => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, "admin.password"), "first administrator");
    server = await startProcess(
      {
        ...environmentOf(image),
        DATABASE_URL: database.url,
        REDIS_URL: redis.url,
        TOKEN_KEYS: "a-secret-for-tests-that-is-long-enough",
        ADMIN_PASSWORD: "first administrator",
        // Nothing is writable: the folder does not exist.
        TMPDIR: join(image.root, "tmp"),
        HOME: join(image.root, "home"),
      },
      inImage(image.command),
    );
    closers.push(() => (server.process.exitCode === null ? server.end() : Promise.resolve()));
  }, 600_000);
  afterAll(() => closeAll(closers));

  /** Returns a command that runs in the working directory of the image. */
  function inImage(command: readonly string[]): string[] {
    return [...asOther, "env", "-C", join(image.root, image.folder), ...command];
  }

  function run(command: readonly string[], environment: Record<string, string> = {}) {
    const [program = "", ...parameters] = inImage(command);
    return spawnSync(program, parameters, { env: { ...environmentOf(image), ...environment }, encoding: "utf8" });
  }

  test("the base of every stage is pinned by digest, and has a Node that package.json permits", () => {
    const bases = new Set(stages.map(({ base }) => base));
    expect([...bases]).toEqual([expect.stringMatching(/^node:\d+-slim@sha256:[0-9a-f]{64}$/)]);
    const [, major] = /^node:(\d+)/.exec([...bases][0] ?? "") ?? [];
    expect(Number(major)).toBeGreaterThanOrEqual(20);
    expect(Number(major)).toBeLessThan(25);
  });

  test("it starts Node with the options of npm start", () => {
    const { scripts } = JSON.parse(readFileSync("package.json", "utf8"));
    expect(["exec", ...image.command].join(" ")).toBe(scripts.start);
  });

  test("it holds no development dependency, no embedded PostgreSQL, no test and no source", () => {
    const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8"));
    const modules = join(image.root, image.folder, "node_modules");
    const held = Object.keys(packages).filter((path) => path !== "" && existsSync(join(modules, "..", path)));
    expect(held.length).toBeGreaterThan(50);
    expect(held.filter((path) => packages[path].dev === true)).toEqual([]);
    expect(readdirSync(modules).filter((name) => name.includes("embedded"))).toEqual([]);
    const paths = readdirSync(join(image.root, image.folder), { recursive: true, encoding: "utf8" });
    const own = paths.filter((path) => !path.startsWith("node_modules"));
    expect(own.filter((path) => path.startsWith("test") || /^src.*\.ts$/.test(path))).toEqual([]);
  });

  test("the user of the image is not root, and can write nothing of it", () => {
    expect(image.user).toBe("node");
    const { stderr } = run(["touch", "x", "dist/x", "node_modules/x"]);
    expect(stderr.match(/Permission denied/g)).toHaveLength(3);
  });

  test("every command of the tour prints the output on its page", () => {
    const steps = runTour({ url: server.url, passwordFile: join(folder, "admin.password") });
    expect(steps.length).toBeGreaterThan(10);
    for (const { written, printed } of steps) expect(printed).toBe(written);
  });

  test("its health check succeeds while the server is ready, and fails without one", () => {
    expect(run(image.healthCheck, { PORT: new URL(server.url).port }).status).toBe(0);
    expect(run(image.healthCheck, { PORT: "1" }).status).toBe(1);
  });

  test("its command line works", () => {
    const { status, stdout } = run(["node", "dist/cli/tollgate.js", "help"]);
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringContaining("tollgate") });
  });

  test("SIGTERM drains the server", async () => {
    expect(await server.end()).toBe(0);
  });
});

test("an instruction that the test does not know fails", () => {
  const unknown = mkdtempSync(join(tmpdir(), "tollgate-dockerfile-"));
  try {
    writeFileSync(join(unknown, ".dockerignore"), "");
    writeFileSync(join(unknown, "Dockerfile"), "ADD https://example.com/file .\n");
    expect(() => runDockerfile(join(unknown, "Dockerfile"))).toThrow("unknown instruction: ADD");
  } finally {
    rmSync(unknown, { recursive: true });
  }
});

import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";

const execute = promisify(execFile);

let app: TestApp;
let folder: string;
beforeAll(async () => {
  app = await startTestApp();
  await app.user({ username: "planner", roles: ["BOT"] });
  await app.user({ username: "anna" });
  const body = { services: [{ service: "UNIVERSAL", methods: [{ method_group: "PLAN", points_per_day: 1500 }] }] };
  await app.http("PUT", "/admin/quotas/anna", { token: app.admin, body });
  folder = await mkdtemp(join(tmpdir(), "tollgate-client-"));
  await execute("npm", ["pack", "./client", "--pack-destination", folder]);
  await writeFile(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  // npm installs the newest versions of the range.
  const peers = Object.entries((await readPackage("client")).peerDependencies ?? {});
  await run("npm", [
    "install",
    "--no-audit",
    "--no-fund",
    `./tollgate-client-${(await readPackage("client")).version}.tgz`,
    ...peers.map(([name, range]) => `${name}@${range}`),
    "@connectrpc/connect-node@^2.1.0",
    "@types/node@20",
  ]);
  await writeFile(join(folder, "snippet.ts"), await readSnippet());
});
afterAll(async () => {
  await app.stop();
  await rm(folder, { recursive: true });
});

const run = (program: string, parameters: readonly string[]) => execute(program, parameters, { cwd: folder });

interface Package {
  readonly version: string;
  readonly dependencies?: Record<string, string>;
  readonly peerDependencies?: Record<string, string>;
}

async function readPackage(path: string): Promise<Package> {
  return JSON.parse(await readFile(join(path, "package.json"), "utf8")) as Package;
}

/** Returns the TypeScript of the README with what it leaves to the reader. */
async function readSnippet(): Promise<string> {
  const [, code = ""] = /```ts\n([\s\S]*?)```/.exec(await readFile("README.md", "utf8")) ?? [];
  const given = `
const token: string = process.env["TOKEN"] ?? "";
async function calculate(signal: AbortSignal): Promise<{ plan: string; points: number }> {
  signal.throwIfAborted();
  return { plan: "a plan", points: 250 };
}
`;
  const complete = code
    .replace("http://tollgate:8080", app.url)
    .replace("\nconst transport", `${given}\nconst transport`);
  return `${complete}console.log(plan);\nprocess.exit(0);\n`;
}

test("the package has the version of the server, no dependencies, and runs with the newest protobuf of its range", async () => {
  const own = await readPackage("client");
  expect([own.version, own.dependencies]).toEqual([(await readPackage(".")).version, undefined]);
  expect(Object.keys(own.peerDependencies ?? {})).toEqual(["@bufbuild/protobuf", "@connectrpc/connect"]);
  // npm chooses the newest connect whose engines include the running Node, and the newest protobuf.
  const { stdout } = await execute("npm", ["view", "@bufbuild/protobuf@2", "version", "--json"]);
  const newest = [JSON.parse(stdout) as string | string[]].flat().at(-1);
  expect((await readPackage(join(folder, "node_modules/@bufbuild/protobuf"))).version).toBe(newest);
  const installed = JSON.parse((await run("npm", ["ls", "--all", "--json", "--depth=3"])).stdout) as object;
  expect(JSON.stringify(installed)).not.toMatch(/"(pg|knex|ioredis|pino|@bufbuild\/protovalidate)"/);
});

test.each([
  { module: "nodenext", moduleResolution: "nodenext" },
  { module: "esnext", moduleResolution: "bundler" },
])("the code of the README compiles with $moduleResolution, and settles 250 points", async (options) => {
  const config = {
    compilerOptions: {
      ...options,
      target: "es2022",
      lib: ["es2023", "dom"],
      types: ["node"],
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      outDir: options.moduleResolution,
    },
    files: ["snippet.ts"],
  };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(config));
  await run(process.execPath, [resolve("node_modules/typescript/bin/tsc"), "-p", "."]).catch(
    (error: { stdout?: string }) => {
      throw new Error(error.stdout ?? String(error));
    },
  );
  const before = await usedPoints();
  const { stdout } = await execute(process.execPath, [join(options.moduleResolution, "snippet.js")], {
    cwd: folder,
    env: { ...process.env, TOKEN: await app.token("planner") },
  });
  expect(stdout).toBe("a plan\n");
  expect((await usedPoints()) - before).toBe(250);
});

async function usedPoints(): Promise<number> {
  const { body } = await app.http("GET", "/quota/usage/anna", { token: app.admin });
  return body.usages[0].limits.find(({ name }: { name: string }) => name === "POINTS_PER_DAY").used;
}

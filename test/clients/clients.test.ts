import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { password, startTestApp } from "../support/app.ts";

/** The generators need another TypeScript version, so they are a separate package with its own lock file. */
const own = "test/clients";
let folder: string;

beforeAll(async () => {
  // npm install changes nothing when the packages of the lock file are installed.
  const install = ["install", "--no-save", "--prefer-offline"];
  await promisify(execFile)("npm", install, { cwd: own });
  folder = await mkdtemp(join(tmpdir(), "tollgate-clients-"));
  for (const name of ["package.json", "tsconfig.json", "tour.ts"]) await cp(join(own, name), join(folder, name));
  await cp("gen/openapi.yaml", join(folder, "openapi.yaml"));
  await symlink(resolve(own, "node_modules"), join(folder, "node_modules"));
}, 300_000);

afterAll(() => rm(folder, { recursive: true }));

test("three generators create clients that type-check, and the openapi-fetch client runs the tour", {
  timeout: 120_000,
}, async () => {
  // Without this option openapi-typescript requires fields that have a default.
  const optionalDefaults = "--default-non-nullable=false";
  await run("openapi-typescript", "openapi.yaml", "-o", "generated/openapi-fetch.d.ts", optionalDefaults);
  await run(
    "openapi-ts",
    "-i",
    "./openapi.yaml",
    "-o",
    "generated/hey-api",
    "-c",
    "@hey-api/client-fetch",
    "--no-log-file",
  );
  await run("orval", "--input", "./openapi.yaml", "--output", "./generated/orval.ts", "--client", "fetch");
  const clients = ["openapi-fetch.d.ts", "hey-api/types.gen.ts", "orval.ts"];
  const texts = await Promise.all(clients.map((client) => readFile(join(folder, "generated", client), "utf8")));
  expect(texts.map((text) => text.includes("lease_id"))).toEqual([true, true, true]);
  await run("tsc", "-p", ".");

  const app = await startTestApp();
  try {
    await app.user({ username: "operator", roles: ["ADMIN"] });
    // It is noon in anna's timezone: no midnight falls between two calls.
    const TIMEZONE = String(12 - new Date().getUTCHours());
    const env = {
      ...process.env,
      TOLLGATE_URL: app.url,
      USERNAME: "operator",
      PASSWORD: password,
      TIMEZONE,
      NO_COLOR: "1",
    };
    const { stdout } = await promisify(execFile)("node", ["compiled/tour.js"], { cwd: folder, env });
    expect(stdout).toBe(tour);
  } finally {
    await app.stop();
  }
});

const tour = `token operator [ 'ADMIN' ]
company acme null
user anna true [ 'USER' ]
quota set 204
quota UNIVERSAL PLAN 1500
acquired 300 ACTIVE
settled SETTLED
refused 429 DAILY_POINTS_EXCEEDED points_per_day: 2000 points requested, 1250 of 1500 remain
usage POINTS_PER_DAY { limit: 1500, used: 250, reserved: 0, remaining: 1250 }
statistics anna [{"service":"UNIVERSAL","methods":[{"method_group":"PLAN","unique_points_per_day":0,"points_per_day":250}]}]
audit UNIVERSAL PLAN run_plan_calculation 250 PT2S
refused 409 COMPANY_HAS_USERS
deleted 204 204 404
`;

/** Runs a program of the package. @throws Error with its output when it fails */
async function run(program: string, ...args: string[]): Promise<void> {
  const path = resolve(own, "node_modules/.bin", program);
  const env = { ...process.env, NO_COLOR: "1", DISABLE_TELEMETRY: "1" };
  await promisify(execFile)(path, args, { cwd: folder, env }).catch(({ stdout, stderr }) => {
    throw new Error(`${program}: ${stdout}${stderr}`);
  });
}

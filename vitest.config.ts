import { readdirSync, readFileSync } from "node:fs";
import { defineConfig } from "vitest/config";

/** Suites that take long, or that need programs beside PostgreSQL and Redis. */
const slow = [
  "test/{clients,e2e,examples,faults,fuzz}/*.test.ts",
  "test/accounts/auth/flood.test.ts",
  "test/cli/backup.test.ts",
  "test/data/convert/programs.test.ts",
  "test/data/stalled.test.ts",
  "test/postgres/{pooler,silent-connections}.test.ts",
  "test/quotas/leases/midnight.test.ts",
  "test/redis/{resharding,sentinel}.test.ts",
  "test/transport/http2-floods.test.ts",
];

/** Starts servers of the last release, whose source comes from the repository and whose libraries from the registry. */
const upgrade = "test/upgrade/*.test.ts";

/** What a test imports when it needs PostgreSQL, Redis, or a program as a process. */
const usesServer = /from "([./]+\/support\/(app|database|garbage-left|process|redis)\.ts|node:child_process)"/;

/** Properties that `npm test` checks with few runs, and `npm run test:slow` with many. */
const properties = [
  "test/audit/totals.test.ts",
  "test/data/convert/convert-bytes.test.ts",
  "test/gateway/parameter-properties.test.ts",
  "test/grpc/encode.test.ts",
  "test/pipeline/storable.test.ts",
  "test/quotas/counters/properties.test.ts",
];

const withServer = readdirSync("test", { withFileTypes: true })
  .flatMap((entry) => (entry.isFile() ? [`test/${entry.name}`] : filesIn(`test/${entry.name}`)))
  .filter((path) => path.endsWith(".test.ts") && usesServer.test(readFileSync(path, "utf8")));

/** Without those of test/clients, a package of its own with thousands of files. */
function filesIn(folder: string): string[] {
  if (folder === "test/clients") return [];
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => `${folder}/${name}`);
}

const servers = ["test/support/global-setup.ts"];
// A slow machine is not a failure.
const timeouts = { testTimeout: 30_000, hookTimeout: 120_000, expect: { poll: { timeout: 10_000 } } };
// The files of a worker share its modules: importing them for each file takes as long as the tests of most files.
const shared = { ...timeouts, isolate: false };

// vitest reads its configuration from a default export only.
export default defineConfig({
  test: {
    // The servers of a worker need a core as well: more workers than cores make deadlines of tests a matter of luck.
    maxWorkers: 2,
    // What runs in a process of its own is not counted.
    coverage: { include: ["src/**/*.ts"], reporter: ["text", "json-summary"], reportOnFailure: true },
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["**/node_modules/**", ...slow, upgrade, ...withServer],
          ...shared,
        },
      },
      { test: { name: "server", include: withServer, exclude: [...slow, upgrade], globalSetup: servers, ...shared } },
      // Most start processes, some of them several times.
      {
        test: {
          name: "slow",
          include: [...slow, ...properties],
          globalSetup: servers,
          env: { RUNS_FACTOR: "6" },
          ...timeouts,
          testTimeout: 180_000,
        },
      },
      {
        test: {
          name: "upgrade",
          include: [upgrade],
          globalSetup: servers,
          ...timeouts,
          testTimeout: 240_000,
          hookTimeout: 240_000,
        },
      },
    ],
  },
});

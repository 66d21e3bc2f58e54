/**
 * Compares the service with the alternatives of a team, alternately, in one run. Run by hand: npm run bench, or
 * npm run bench -- --rows a,f --json out.json. The server has one core, all other processes share the other.
 * `--release` measures rows a to f and h of the last release too.
 */
import { execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { buildRelease } from "../../support/release.ts";
import { type Fixture, startFixture } from "./fixture.ts";
import { isInstalled } from "./processes.ts";
import type { Row } from "./row.ts";
import { rows } from "./rows.ts";

const needs: Readonly<Record<string, readonly string[]>> = {
  a: ["redis-benchmark"],
  b: ["redis-benchmark"],
  c: ["h2load"],
  e: ["wrk"],
  f: ["wrk"],
};
/** The rows that the last release can run. The other rows start this tree, or settle batches. */
const rowsOfRelease = ["a", "b", "c", "d", "e", "f", "h"];
/** Lines of these rows that measure servers and scripts of this tree alone. */
const ofThisTree = /our gRPC server|same script/;
const packages = "apt-get install -y redis-server nghttp2-client wrk util-linux";

const { values } = parseArgs({
  options: {
    rows: { type: "string", default: "a,b,c,d,e,f,g,h,i,j" },
    json: { type: "string" },
    release: { type: "boolean", default: false },
  },
});
for (const program of ["redis-server", "taskset"]) {
  if (!isInstalled(program)) {
    console.error(`${program} is needed: ${packages}`);
    process.exit(1);
  }
}
execFileSync("npx", ["tsc", "-p", "tsconfig.build.json"], { stdio: "inherit" });
process.setMaxListeners(100);
const fixture = await startFixture();
let release: Fixture | undefined;
const made: Row[] = [];
try {
  if (values.release) release = await startFixture({ tree: await buildRelease() });
  for (const name of values.rows.split(",")) {
    const missing = (needs[name] ?? []).filter((program) => !isInstalled(program));
    if (missing.length > 0) console.error(`row ${name} is left out: ${missing.join(" and ")} missing (${packages})`);
    else {
      made.push(...((await rows[name]?.(fixture)) ?? []));
      const ofRelease = release && rowsOfRelease.includes(name) ? ((await rows[name]?.(release)) ?? []) : [];
      const lines = ofRelease.filter(({ what }) => !ofThisTree.test(what));
      made.push(...lines.map((line) => ({ ...line, row: `${name}, last release` })));
    }
  }
} finally {
  try {
    await fixture.stop();
  } finally {
    await release?.stop();
  }
}
print(made);
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(made, undefined, 2)}\n`);
process.exit(0);

function print(all: readonly Row[]): void {
  const number = (value: number) => (Number.isNaN(value) ? "" : value >= 100 ? value.toFixed(0) : value.toFixed(2));
  const table = [
    ["row", "ours | rival", "unit", "ours", "rival", "ratio", "aim"],
    ...all.map(({ row, what, unit, ours, rivals, ratio, aim }) => [
      row,
      what,
      unit,
      number(ours),
      number(rivals),
      number(ratio),
      aim,
    ]),
  ];
  const widths = (table[0] ?? []).map((_title, column) =>
    Math.max(...table.map((line) => (line[column] ?? "").length)),
  );
  for (const line of table)
    console.log(
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
}

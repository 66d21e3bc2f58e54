import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";

interface Import {
  readonly from: string;
  readonly to: string;
}

const files = readdirSync("src", { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
const imports = files.flatMap((from) =>
  importsOf(readFileSync(join("src", from), "utf8")).map(
    (path): Import => ({ from, to: normalize(join(dirname(from), path)) }),
  ),
);
const floors = readFloors(readFileSync("docs/architecture.md", "utf8"));

test("each folder is on one floor, and each floor names what exists", () => {
  expect([...floors.keys()].toSorted()).toEqual([...new Set(files.map(folderOf))].toSorted());
});

test("a folder imports only from floors below its own", () => {
  expect(imports.length).toBeGreaterThan(500);
  expect(violationsOf(imports)).toEqual([]);
});

test("files import each other in no circle, types included", () => {
  expect(circleIn(imports)).toBeUndefined();
});

test("the checks see what they forbid", () => {
  expect(violationsOf([{ from: "core/call.ts", to: "server/app.ts" }])).toEqual(["core/call.ts imports server/app.ts"]);
  expect(violationsOf([{ from: "user/store.ts", to: "audit/store.ts" }])).toHaveLength(1);
  const circle = [
    { from: "a.ts", to: "b.ts" },
    { from: "b.ts", to: "c.ts" },
    { from: "c.ts", to: "b.ts" },
  ];
  expect(circleIn(circle)).toEqual(["b.ts", "c.ts", "b.ts"]);
});

/** The paths of the relative imports, types and dynamic imports included. */
function importsOf(source: string): string[] {
  return [...source.matchAll(/(?:from|import\()\s*"(\.[^"]+\.ts)"/g)].map(([, path = ""]) => path);
}

/** The number of the floor of each folder, 1 at the top: the numbered list of the section Floors. */
function readFloors(page: string): ReadonlyMap<string, number> {
  const section = page.slice(page.indexOf("## Floors"), page.indexOf("## Where state lives"));
  const lines = [...section.matchAll(/^(\d+)\. (.*)$/gm)];
  return new Map(
    lines.flatMap(([, floor, names = ""]) =>
      [...names.matchAll(/`([\w.-]+)`/g)].map(([, name = ""]) => [name, Number(floor)] as const),
    ),
  );
}

function folderOf(file: string): string {
  return file.split("/", 1)[0] ?? file;
}

function violationsOf(edges: readonly Import[]): string[] {
  return edges
    .filter(({ from, to }) => folderOf(from) !== folderOf(to))
    .filter(({ from, to }) => (floors.get(folderOf(from)) ?? 0) >= (floors.get(folderOf(to)) ?? 0))
    .map(({ from, to }) => `${from} imports ${to}`);
}

/** The files of one circle, the first again at the end; undefined where there is none. */
function circleIn(edges: readonly Import[]): string[] | undefined {
  const targets = new Map<string, string[]>();
  for (const { from, to } of edges) targets.set(from, [...(targets.get(from) ?? []), to]);
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): string[] | undefined => {
    const start = path.indexOf(file);
    if (start >= 0) return [...path.slice(start), file];
    if (done.has(file)) return undefined;
    for (const to of targets.get(file) ?? []) {
      const circle = visit(to, [...path, file]);
      if (circle !== undefined) return circle;
    }
    done.add(file);
    return undefined;
  };
  for (const file of targets.keys()) {
    const circle = visit(file, []);
    if (circle !== undefined) return circle;
  }
  return undefined;
}

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";

interface Import {
  readonly from: string;
  readonly to: string;
}

/** The floors of the parts directly below `root`, a path in src that ends with a slash. Empty: src itself. */
interface FloorList {
  readonly root: string;
  readonly floors: ReadonlyMap<string, number>;
}

const files = readdirSync("src", { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
const imports = files.flatMap((from) =>
  importsOf(readFileSync(join("src", from), "utf8")).map(
    (path): Import => ({ from, to: normalize(join(dirname(from), path)) }),
  ),
);
const page = readFileSync("docs/architecture.md", "utf8");
const lists = [
  { root: "", floors: readFloors("## Floors") },
  ...["quotas", "accounts"].map((folder) => ({ root: `${folder}/`, floors: readFloors(`Within \`${folder}\``) })),
];

test.each(lists)(
  "docs/architecture.md names each part of src/$root on one floor, and names no other part",
  ({ root, floors }) => {
    const parts = new Set(files.filter((file) => file.startsWith(root)).map((file) => partOf(root, file)));
    expect([...floors.keys()].toSorted()).toEqual([...parts].toSorted());
  },
);

test("a folder imports only from floors below its own", () => {
  expect(imports.length).toBeGreaterThan(500);
  expect(lists.flatMap((list) => violationsOf(list, imports))).toEqual([]);
});

test("imports make no circle, types included", () => {
  expect(circleIn(imports)).toBeUndefined();
});

test("every name that src exports is unique", () => {
  const sources = files.map((file): [string, string] => [file, readFileSync(join("src", file), "utf8")]);
  expect(sources.flatMap(([, source]) => exportsOf(source)).length).toBeGreaterThan(500);
  expect(sharedNamesOf(sources)).toEqual([]);
});

test.each([
  'import { a } from "./b.ts";',
  'import type { A } from "./b.ts";',
  'import {\n  type A,\n} from "./b.ts";',
  'import "./b.ts";',
  'export { a } from "./b.ts";',
  'export type * from "./b.ts";',
  'const { a } = await import("./b.ts");',
  'type A = import("./b.ts").A;',
  'type A = typeof import(\n  "./b.ts"\n);',
])("the checks see the import %j", (source) => {
  expect(importsOf(source)).toEqual(["./b.ts"]);
});

test("the checks report each forbidden import, circle and shared name", () => {
  const [all, quotas, accounts] = lists as [FloorList, FloorList, FloorList];
  const forbidden = (list: FloorList, from: string, to: string) => violationsOf(list, [{ from, to }]);
  expect(forbidden(all, "shared/handler.ts", "app/app.ts")).toEqual(["shared/handler.ts imports app/app.ts"]);
  expect(forbidden(all, "accounts/users/store.ts", "audit/store.ts")).toHaveLength(1);
  expect(forbidden(quotas, "quotas/counters/redis.ts", "quotas/ledger/read.ts")).toHaveLength(1);
  expect(forbidden(accounts, "accounts/users/store.ts", "accounts/companies/store.ts")).toHaveLength(1);
  const circle = [
    { from: "a.ts", to: "b.ts" },
    { from: "b.ts", to: "c.ts" },
    { from: "c.ts", to: "b.ts" },
  ];
  expect(circleIn(circle)).toEqual(["b.ts", "c.ts", "b.ts"]);
  const first = "export type Row = string;\nexport const { left, right: up } = pair;\n";
  const second = 'export async function* up() {}\nexport interface Row {}\nexport { left } from "./b.ts";\n';
  expect(
    sharedNamesOf([
      ["a.ts", first],
      ["b.ts", second],
    ]),
  ).toEqual(["Row: a.ts, b.ts", "up: a.ts, b.ts"]);
});

/** Returns the names that a file declares and exports. Re-exports are left out. */
function exportsOf(source: string): string[] {
  const named = /^export (?:declare |abstract |async )*(?:function\*?|const|let|class|interface|type|enum) +(\w+)/gm;
  const destructured = /^export const \{([^}]*)\}/gm;
  return [
    ...[...source.matchAll(named)].map(([, name = ""]) => name),
    ...[...source.matchAll(destructured)].flatMap(([, list = ""]) =>
      list.split(",").map((part) => part.split(":").at(-1)?.trim() ?? ""),
    ),
  ].filter((name) => name !== "");
}

/** Returns a line `name: files` for each name that more than one file exports, sorted. */
function sharedNamesOf(sources: readonly (readonly [file: string, source: string])[]): string[] {
  const filesOf = new Map<string, string[]>();
  for (const [file, source] of sources) {
    for (const name of new Set(exportsOf(source))) filesOf.set(name, [...(filesOf.get(name) ?? []), file]);
  }
  return [...filesOf]
    .filter(([, places]) => places.length > 1)
    .map(([name, places]) => `${name}: ${places.join(", ")}`)
    .toSorted();
}

/** Returns the paths of the relative imports: of values, types and effects, re-exports, and dynamic ones. */
function importsOf(source: string): string[] {
  return [...source.matchAll(/\b(?:from|import)[\s(]*"(\.[^"]+\.ts)"/g)].map(([, path = ""]) => path);
}

/** Reads the numbered list after the heading. Returns the floor of each part, 1 at the top. */
function readFloors(heading: string): ReadonlyMap<string, number> {
  const list = /\n(?:\d+\. .*\n)+/.exec(page.slice(page.indexOf(heading)))?.[0] ?? "";
  return new Map(
    [...list.matchAll(/^(\d+)\. (.*)$/gm)].flatMap(([, floor, names = ""]) =>
      [...names.matchAll(/`([\w.-]+)`/g)].map(([, name = ""]) => [name, Number(floor)] as const),
    ),
  );
}

/** Returns the file or folder directly below the root that contains the file. */
function partOf(root: string, file: string): string {
  return file.slice(root.length).split("/", 1)[0] ?? file;
}

function violationsOf({ root, floors }: FloorList, edges: readonly Import[]): string[] {
  return edges
    .filter(({ from, to }) => from.startsWith(root) && to.startsWith(root))
    .map((edge) => ({ edge, from: partOf(root, edge.from), to: partOf(root, edge.to) }))
    .filter(({ from, to }) => from !== to && (floors.get(from) ?? 0) >= (floors.get(to) ?? 0))
    .map(({ edge }) => `${edge.from} imports ${edge.to}`);
}

/** Returns the files of one circle, with the first repeated at the end. Undefined if there is no circle. */
function circleIn(edges: readonly Import[]): string[] | undefined {
  const targets = new Map<string, string[]>();
  for (const { from, to } of edges) targets.set(from, [...(targets.get(from) ?? []), to]);
  const done = new Set<string>();
  const findCircle = (file: string, path: readonly string[]): string[] | undefined => {
    const start = path.indexOf(file);
    if (start >= 0) return [...path.slice(start), file];
    if (done.has(file)) return undefined;
    for (const to of targets.get(file) ?? []) {
      const circle = findCircle(to, [...path, file]);
      if (circle !== undefined) return circle;
    }
    done.add(file);
    return undefined;
  };
  for (const file of targets.keys()) {
    const circle = findCircle(file, []);
    if (circle !== undefined) return circle;
  }
  return undefined;
}

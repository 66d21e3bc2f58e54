import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

test("every dependency says in docs/development.md why it is there, and no other package does", () => {
  expect(documented(readFileSync("docs/development.md", "utf8"))).toEqual(declared());
});

test("every package that an install brings has a permitted licence", () => {
  expect(unpermitted(installed())).toEqual([]);
});

test("a package with another licence, or without one, is found", () => {
  const packages = [
    { name: "copyleft", license: "GPL-3.0-only" },
    { name: "silent", license: undefined },
    { name: "one-of-two", license: "(GPL-3.0-only AND MIT)" },
  ];
  expect(unpermitted([...installed(), ...packages])).toEqual(packages);
});

interface Package {
  readonly name: string;
  /** An SPDX expression, as the package's author wrote it. */
  readonly license: string | undefined;
}

const permitted = new Set([
  "0BSD",
  "Apache-2.0",
  "BlueOak-1.0.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "CC0-1.0",
  "CC-BY-4.0",
  "ISC",
  "MIT",
  "MIT/X11",
  "MIT-0",
  // A copyleft of single files, which are used as they are.
  "MPL-2.0",
  "Python-2.0",
  "Unlicense",
  "Zlib",
]);

/**
 * Packages whose package.json names no licence. `buffers` comes with exceljs, below `binary`, which has the same author
 * and the MIT licence; only exceljs' reader loads it, and we do not use that.
 */
const unnamed = new Map([["buffers", "MIT"]]);

function unpermitted(packages: readonly Package[]): Package[] {
  return packages.filter(({ name, license }) => !isPermitted(license ?? unnamed.get(name) ?? ""));
}

/** Of alternatives one is enough; of a conjunction all are needed. */
function isPermitted(expression: string): boolean {
  const text = expression.replaceAll(/[()]/g, "");
  return text.split(" OR ").some((alternative) => alternative.split(" AND ").every((one) => permitted.has(one.trim())));
}

/** Licences of packages that name them in the old form, `licenses`. */
const inOldForm = new Map([["reserved", "MIT"]]);

function installed(): Package[] {
  const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8")) as {
    packages: Record<string, { license?: string }>;
  };
  return Object.entries(packages)
    .filter(([path]) => path.includes("node_modules/"))
    .map(([path, { license }]) => ({ name: path.split("node_modules/").at(-1) ?? path, license }))
    .map(({ name, license }) => ({ name, license: license ?? inOldForm.get(name) }));
}

function declared(): string[] {
  const { dependencies, devDependencies } = JSON.parse(readFileSync("package.json", "utf8")) as Record<
    "dependencies" | "devDependencies",
    object
  >;
  return Object.keys({ ...dependencies, ...devDependencies }).toSorted();
}

function documented(page: string): string[] {
  const [, section = ""] = /^## Dependencies\n(.*?)^## /ms.exec(page) ?? [];
  return [...section.matchAll(/^\| `([^`]+)` \| \S/gm)].map(([, name = ""]) => name).toSorted();
}

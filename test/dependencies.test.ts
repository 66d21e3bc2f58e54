import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

test("docs/development.md gives a reason for every dependency and for no other package", () => {
  expect(documented(readFileSync("docs/development.md", "utf8"))).toEqual(declared());
});

test("every installed package has a permitted license", () => {
  expect(unpermitted(installed())).toEqual([]);
});

test("the check reports a package with another license or without one", () => {
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
  // Copyleft per file. The files are used unchanged.
  "MPL-2.0",
  "Python-2.0",
  "Unlicense",
  "Zlib",
]);

/**
 * Licenses of packages whose package.json names none. `buffers` is a dependency of `binary`, which has the same author
 * and the MIT license. Only the reader of exceljs loads it, and Tollgate does not use that reader.
 */
const unnamed = new Map([["buffers", "MIT"]]);

function unpermitted(packages: readonly Package[]): Package[] {
  return packages.filter(({ name, license }) => !isPermitted(license ?? unnamed.get(name) ?? ""));
}

/** Permits an SPDX expression if all licenses of one of its OR alternatives are permitted. */
function isPermitted(expression: string): boolean {
  const text = expression.replaceAll(/[()]/g, "");
  return text
    .split(" OR ")
    .some((alternative) => alternative.split(" AND ").every((license) => permitted.has(license.trim())));
}

/** Licenses of packages that name them in the old field, `licenses`. */
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

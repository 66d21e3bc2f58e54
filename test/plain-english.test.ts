import { readdirSync, readFileSync, statSync } from "node:fs";
import { expect, test } from "vitest";

test("code and documentation use plain English", () => {
  expect(files().flatMap((file) => findings(file, readFileSync(file, "utf8")))).toEqual([]);
});

test.each([
  ["// The rows are read anew.", "anew"],
  ["  const patience = 5;", "the name patience"],
  ["  // What a lease holds.", 'a comment that begins with "What"'],
  ["/** Who changed it sees it. */", 'a comment that begins with "Who"'],
  ["   * The same as above.", 'a comment that begins with "The same"'],
  ["-- As the other table.", 'a comment that begins with "As"'],
  ["The server serialises the message.", "serialises"],
])("%s is found", (line, found) => {
  expect(findings("src/example.ts", `first\n${line}`)).toEqual([`src/example.ts:2: ${found}`]);
});

test.each(["const told = 1;", "// Asks the server.", "// Whole rows", 'state: "CANCELLED"'])(
  "%s is accepted",
  (line) => {
    expect(findings("src/example.ts", line)).toEqual([]);
  },
);

/** Words that a reader with English as a second language stumbles over, and British spellings. */
const words = new RegExp(
  String.raw`\b(${[
    "anew",
    "in vain",
    "whoever",
    "nobody",
    "somebody",
    "anybody",
    "everybody",
    "at the most",
    "for good",
    "(?:is|are|was|were|be) told",
    "(?:serial|author|recogn|optim|normal|initial|organ)is(?:e|es|ed|ing|ation)",
    "cancelled",
    "behaviour",
    "colour",
    "honour(?:s|ed)?",
    "licence",
  ].join("|")})\b`,
  "gi",
);
/** A comment stands alone, with its subject first. */
const commentStart = /^\s*(?:\/\/|\/\*\*?|\*|--|#)\s+(As|The same|Also|They|Who|Whose|What)\s/;
/** A name states a role. These metaphors have a word of the field. */
const metaphor = /\b(?:const|let|function|readonly|local)\s+(book|tally|standings|visits?|turns|patience|hear|door)\b/;

const exceptions: readonly { readonly text: RegExp; readonly reason: string }[] = [
  { text: /\bCANCELLED\b/g, reason: "The name of a code of gRPC and of an outcome in the protocol." },
];

/** Third-party files, released migrations, which must not change, and this file. */
const ignored =
  /^(test\/(spec|clients|plain-english\.test\.ts)|proto\/(buf|google|grpc)\/|src\/postgres\/migrations\/000)/;

function files(): string[] {
  const roots = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "Dockerfile",
    ".ci",
    "docs",
    "examples",
    "proto",
    "src",
    "test",
  ];
  return roots
    .flatMap(filesIn)
    .filter((file) => /\.(ts|md|proto|lua|sql|py)$|^\.ci\/|^Dockerfile$/.test(file) && !ignored.test(file));
}

function filesIn(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).flatMap((name) => filesIn(`${path}/${name}`));
}

function findings(file: string, text: string): string[] {
  return text.split("\n").flatMap((line, index) => {
    const plain = exceptions.reduce((rest, { text: allowed }) => rest.replaceAll(allowed, ""), line);
    const start = commentStart.exec(file.endsWith(".md") ? "" : plain)?.[1];
    const found = [...plain.matchAll(words)].map(([word]) => word);
    const name = /\.(ts|lua)$/.test(file) ? metaphor.exec(plain)?.[1] : undefined;
    if (name !== undefined) found.push(`the name ${name}`);
    if (start !== undefined) found.push(`a comment that begins with "${start}"`);
    return found.map((what) => `${file}:${index + 1}: ${what}`);
  });
}

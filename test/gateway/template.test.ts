import { expect, test } from "vitest";
import { parseTemplate } from "../../src/gateway/template.ts";

const literal = (value: string) => ({ kind: "literal", value });

test.each([
  ["/users", [literal("users")], [], undefined],
  [
    "/users/{name}",
    [literal("users"), { kind: "single" }],
    [{ fieldPath: ["name"], start: 1, end: 2, multiple: false, open: false }],
    undefined,
  ],
  [
    "/{a.b}/*",
    [{ kind: "single" }, { kind: "single" }],
    [{ fieldPath: ["a", "b"], start: 0, end: 1, multiple: false, open: false }],
    undefined,
  ],
  [
    "/{a=b/*}",
    [literal("b"), { kind: "single" }],
    [{ fieldPath: ["a"], start: 0, end: 2, multiple: true, open: false }],
    undefined,
  ],
  [
    "/x/{a=**}:run",
    [literal("x"), { kind: "rest" }],
    [{ fieldPath: ["a"], start: 1, end: 2, multiple: true, open: true }],
    "run",
  ],
  ["/x/**", [literal("x"), { kind: "rest" }], [], undefined],
  ["/c%2Fd:s%C3%A8", [literal("c/d")], [], "sè"],
])("reads %s", (text, segments, variables, verb) => {
  expect(parseTemplate(text)).toEqual({ segments, variables, verb });
});

test.each([
  "",
  "users",
  "/",
  "/a//b",
  "/a/",
  "/{a",
  "/{}",
  "/{a=}",
  "/{a={b}}",
  "/**/a",
  "/{1a}",
  "/a:",
  "/a:b/c",
  "/{a=**}/b",
  "/a?b",
  "/a%2",
  "/%ff",
  "/a:b%zz",
])("refuses %s and names the position", (text) => {
  expect(() => parseTemplate(text)).toThrow(new RegExp(`^path template .* at position \\d+$`));
});

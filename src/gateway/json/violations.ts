import type { FieldViolation } from "../../call/bounds.ts";
import { type RoundedNumbers, roundedLeaf } from "./rounded.ts";

/** The result of checking the JSON of a message. */
export interface JsonViolations {
  readonly violations: FieldViolation[];
  /** Whether the JSON was rewritten, because protobuf-es would refuse it or read it inexactly. */
  isChanged: boolean;
  /** Whether a key "__proto__" was hidden in the JSON. */
  hasHiddenKey: boolean;
  /** Numbers that JSON.parse has rounded; undefined when there are none. */
  readonly rounded: RoundedNumbers | undefined;
}

/** The position of a value. It becomes text only when a rule is broken: most values break none. */
export type JsonPath = { readonly above: JsonPath; readonly at: string | number } | undefined;

/** Adds a broken rule of the field at a path. */
export function addViolation(found: JsonViolations, path: JsonPath, description: string): void {
  found.violations.push({ field: textOf(path), description });
}

/** Whether JSON.parse has rounded the number at a path to an integer. */
export function isRoundedAt({ rounded }: JsonViolations, path: JsonPath): boolean {
  return rounded !== undefined && below(rounded, path) === roundedLeaf;
}

/** Appends a key or an index to a path: `a`, `0` → `a[0]`; `a`, `b` → `a.b`. */
export function joinJsonPath(before: string, at: string | number): string {
  if (typeof at === "number") return `${before}[${at}]`;
  // An empty key is made visible.
  const name = at === "" ? '""' : at;
  return before === "" ? name : `${before}.${name}`;
}

function below(rounded: RoundedNumbers, path: JsonPath): RoundedNumbers | undefined {
  return path === undefined ? rounded : below(rounded, path.above)?.get(path.at);
}

function textOf(path: JsonPath): string {
  return path === undefined ? "" : joinJsonPath(textOf(path.above), path.at);
}

import type { FieldViolation } from "../../call/bounds.ts";
import { joinJsonPath, type RoundedNumbers, roundedLeaf } from "./scan.ts";

/** What a check of a message's JSON has found so far. */
export interface JsonViolations {
  readonly violations: FieldViolation[];
  /** Whether the JSON was rewritten: protobuf-es would refuse it as it was sent, or read it inexactly. */
  isChanged: boolean;
  /** Whether a key "__proto__" was hidden in it. */
  hasHiddenKey: boolean;
  readonly rounded: RoundedNumbers | undefined;
}

/** Where a value stands. Its path is written only when a rule is broken: most values break none. */
export type JsonPath = { readonly above: JsonPath; readonly at: string | number } | undefined;

export function addViolation(findings: JsonViolations, place: JsonPath, description: string): void {
  findings.violations.push({ field: pathOf(place), description });
}

/** Whether the text of the number at a place is another number than the integer that it was read as. */
export function isRoundedAt({ rounded }: JsonViolations, place: JsonPath): boolean {
  return rounded !== undefined && belowPlace(rounded, place) === roundedLeaf;
}

function belowPlace(rounded: RoundedNumbers, place: JsonPath): RoundedNumbers | undefined {
  return place === undefined ? rounded : belowPlace(rounded, place.above)?.get(place.at);
}

function pathOf(place: JsonPath): string {
  return place === undefined ? "" : joinJsonPath(pathOf(place.above), place.at);
}

import { type DescEnum, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { isInteger, normalizeScalar, ruleOfScalar } from "./scalars.ts";
import { addViolation, isRoundedAt, type JsonPath, type JsonViolations } from "./violations.ts";

/** Checks the JSON of a scalar. Returns it in a form that protobuf-es reads exactly. */
export function checkScalar(found: JsonViolations, type: ScalarType, json: JsonValue, path: JsonPath): JsonValue {
  const isExact = typeof json !== "number" || !isInteger(type) || !isRoundedAt(found, path);
  const normal = isExact ? normalizeScalar(type, json) : undefined;
  if (normal === undefined) return reportViolation(found, path, ruleOfScalar(type, json), json);
  return reportChange(found, json, normal);
}

/** Checks the JSON of an enum: a name or a number. */
export function checkEnum(found: JsonViolations, desc: DescEnum, json: JsonValue, path: JsonPath): JsonValue {
  if (typeof json === "number" && isRoundedAt(found, path)) {
    return reportViolation(found, path, ruleOfEnum(desc), json);
  }
  if (valuesOf(desc).has(json) || (json === null && desc.typeName === "google.protobuf.NullValue")) return json;
  if (desc.open && Number.isInteger(json) && normalizeScalar(ScalarType.INT32, json) !== undefined) return json;
  return reportViolation(found, path, ruleOfEnum(desc), json);
}

/** Adds a violation. Returns the JSON unchanged, so that the rest is checked. */
export function reportViolation(found: JsonViolations, path: JsonPath, rule: string, json: JsonValue): JsonValue {
  addViolation(found, path, rule);
  return json;
}

/** Returns the new JSON, and notes whether it differs. */
export function reportChange(found: JsonViolations, before: JsonValue, after: JsonValue): JsonValue {
  if (before !== after) found.isChanged = true;
  return after;
}

function ruleOfEnum(desc: DescEnum): string {
  const names = desc.values.map(({ name }) => name).filter((name) => !name.endsWith("UNSPECIFIED"));
  return `must be one of ${names.join(", ")}`;
}

const enumValues = new WeakMap<DescEnum, ReadonlySet<unknown>>();

/** The names and the numbers of an enum. */
function valuesOf(desc: DescEnum): ReadonlySet<unknown> {
  let values = enumValues.get(desc);
  if (values === undefined) {
    values = new Set(desc.values.flatMap(({ name, number }) => [name, number]));
    enumValues.set(desc, values);
  }
  return values;
}

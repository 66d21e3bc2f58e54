import {
  type DescEnum,
  type DescField,
  type DescMessage,
  getOption,
  type JsonValue,
  type Registry,
  ScalarType,
} from "@bufbuild/protobuf";
import { hasCustomJsonRepresentation, isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { FieldBehavior, field_behavior } from "#gen/google/api/field_behavior_pb.js";
import { acceptsNull, type FieldPath, fieldsByName } from "../fields.ts";
import { addViolation, isRoundedAt, type JsonPath, type JsonViolations } from "./findings.ts";
import { hideKey, isObject, setOwn } from "./objects.ts";
import { isInteger, isUnicode, normalizeKey, normalizeScalar, ruleOfKey, ruleOfScalar } from "./scalars.ts";
import type { RoundedNumbers } from "./scan.ts";
import { checkValue } from "./struct.ts";
import { durationRule, isTimestamp, normalizeDuration, timestampRule } from "./times.ts";

export interface CheckOptions {
  /** The types that a google.protobuf.Any may hold. */
  readonly registry: Registry | undefined;
  /** The fields that the JSON need not have though they are REQUIRED; undefined: it need not have any. */
  readonly elsewhere: readonly FieldPath[] | undefined;
  /** The numbers that are rounded to integers: a field of integers must not have one. */
  readonly rounded: RoundedNumbers | undefined;
}

export interface Checked extends Readonly<JsonViolations> {
  /** The JSON as protobuf-es reads it exactly, if no rule is broken. */
  readonly json: JsonValue;
}

/**
 * Checks the JSON of a message against its descriptor, more strictly than protobuf-es, which reads 31 September, "5s30m",
 * "0x10" and "A==" as something. Rewrites in place what protobuf-es refuses or reads inexactly: "1e2", "PT20S".
 */
export function checkJson(desc: DescMessage, json: JsonValue, options: CheckOptions): Checked {
  const { registry, elsewhere, rounded } = options;
  const findings: JsonViolations = { violations: [], isChanged: false, hasHiddenKey: false, rounded };
  const checked = checkMessage({ findings, registry }, desc, json, undefined, elsewhere);
  return { ...findings, json: checked };
}

interface Context {
  readonly findings: JsonViolations;
  readonly registry: Registry | undefined;
}

function checkMessage(
  context: Context,
  desc: DescMessage,
  json: JsonValue,
  place: JsonPath,
  elsewhere: CheckOptions["elsewhere"],
): JsonValue {
  const plan = planOf(desc);
  if (plan.hasForm) return checkForm(context, desc, json, place);
  const { findings } = context;
  if (!isObject(json)) return refused(findings, place, "must be an object", json);
  let chosen: Map<unknown, DescField> | undefined;
  for (const key of Object.keys(json)) {
    const field = plan.fields.get(key);
    const at = { above: place, at: key };
    const value = json[key] ?? null;
    if (field === undefined) addViolation(findings, at, "is no field of this message");
    else if (isSecondName(json, field, key))
      addViolation(findings, at, `is given twice: ${field.name} and ${field.jsonName}`);
    else if (value === null && !acceptsNull(field)) {
      // Null says that a value is absent. protobuf-es takes it for a member of the oneof that is given.
      if (field.oneof !== undefined && Reflect.deleteProperty(json, key)) findings.isChanged = true;
    } else {
      if (field.oneof !== undefined) {
        chosen ??= new Map();
        const other = chosen.get(field.oneof);
        if (other !== undefined) addViolation(findings, at, `excludes ${other.name}, which is given too`);
        chosen.set(field.oneof, field);
      }
      const checked = checkField(context, field, value, at, elsewhere);
      if (checked !== value) json[key] = checked;
    }
  }
  if (elsewhere !== undefined) checkRequired(findings, plan.required, json, place, elsewhere);
  return json;
}

/** Whether the key is one of a field's two names, and the other one is given too, before it. */
function isSecondName(json: Record<string, JsonValue>, { name, jsonName }: DescField, key: string): boolean {
  if (name === jsonName) return false;
  const other = key === name ? jsonName : name;
  if (!Object.hasOwn(json, other)) return false;
  const keys = Object.keys(json);
  return keys.indexOf(other) < keys.indexOf(key);
}

function checkRequired(
  findings: JsonViolations,
  fields: readonly DescField[],
  json: Record<string, JsonValue>,
  place: JsonPath,
  elsewhere: readonly FieldPath[],
): void {
  for (const field of fields) {
    const value = json[field.name] ?? json[field.jsonName];
    // Null is how a caller gives a wrapper.
    const isWrapper = field.message !== undefined && isWrapperDesc(field.message);
    const isNullGiven = Object.hasOwn(json, field.name) || Object.hasOwn(json, field.jsonName);
    if ((value ?? null) !== null || (isNullGiven && (isWrapper || acceptsNull(field)))) continue;
    if (!elsewhere.some(([first]) => first === field)) {
      addViolation(findings, { above: place, at: field.name }, "is required");
    }
  }
}

function checkField(
  context: Context,
  field: DescField,
  json: JsonValue,
  place: JsonPath,
  elsewhere: CheckOptions["elsewhere"],
): JsonValue {
  switch (field.fieldKind) {
    case "scalar":
      return checkScalar(context.findings, field.scalar, json, place);
    case "enum":
      return checkEnum(context.findings, field.enum, json, place);
    case "message":
      return checkMessage(context, field.message, json, place, below(elsewhere, field));
    case "map":
      return checkMap(context, field, json, place, inItems(elsewhere));
    default: {
      if (!Array.isArray(json)) return refused(context.findings, place, "must be a list", json);
      for (let at = 0; at < json.length; at += 1) {
        const item = json[at] ?? null;
        const checked = checkItem(context, field, item, { above: place, at }, inItems(elsewhere));
        if (checked !== item) json[at] = checked;
      }
      return json;
    }
  }
}

/** What the path or the query gives lies in messages, never in an item of a list or a map. */
function inItems(elsewhere: CheckOptions["elsewhere"]): CheckOptions["elsewhere"] {
  return elsewhere && nowhere;
}

const nowhere: readonly FieldPath[] = [];

function checkMap(
  context: Context,
  field: DescField & { fieldKind: "map" },
  json: JsonValue,
  place: JsonPath,
  elsewhere: CheckOptions["elsewhere"],
) {
  const { findings } = context;
  if (!isObject(json)) return refused(findings, place, "must be an object", json);
  for (const [key, item] of Object.entries(json)) {
    const at = { above: place, at: key };
    const normal = normalizeKey(field.mapKey, key);
    if (normal === undefined) addViolation(findings, at, `the key ${ruleOfKey(field.mapKey)}`);
    else if (normal !== key && Object.hasOwn(json, normal)) addViolation(findings, at, "is given twice");
    setOwn(json, key, checkItem(context, field, item, at, elsewhere));
  }
  if (hideKey(json)) findings.hasHiddenKey = true;
  return json;
}

/** Checks one value: a field's, or an item's of its list or map. */
function checkItem(
  context: Context,
  field: DescField,
  json: JsonValue,
  place: JsonPath,
  elsewhere: CheckOptions["elsewhere"],
): JsonValue {
  const { findings } = context;
  if (json === null && !acceptsNull(field)) return refused(findings, place, "must not be null", json);
  if (field.message !== undefined) return checkMessage(context, field.message, json, place, elsewhere);
  if (field.enum !== undefined) return checkEnum(findings, field.enum, json, place);
  return checkScalar(findings, field.scalar, json, place);
}

function checkScalar(findings: JsonViolations, type: ScalarType, json: JsonValue, place: JsonPath): JsonValue {
  const isExact = typeof json !== "number" || !isInteger(type) || !isRoundedAt(findings, place);
  const normal = isExact ? normalizeScalar(type, json) : undefined;
  return normal === undefined
    ? refused(findings, place, ruleOfScalar(type, json), json)
    : changed(findings, json, normal);
}

function checkEnum(findings: JsonViolations, desc: DescEnum, json: JsonValue, place: JsonPath): JsonValue {
  if (typeof json === "number" && isRoundedAt(findings, place)) return refused(findings, place, ruleOfEnum(desc), json);
  if (valuesOf(desc).has(json) || (json === null && desc.typeName === "google.protobuf.NullValue")) return json;
  if (desc.open && Number.isInteger(json) && normalizeScalar(ScalarType.INT32, json) !== undefined) return json;
  return refused(findings, place, ruleOfEnum(desc), json);
}

function ruleOfEnum(desc: DescEnum): string {
  const names = desc.values.map(({ name }) => name).filter((name) => !name.endsWith("UNSPECIFIED"));
  return `must be one of ${names.join(", ")}`;
}

/** Checks a message whose JSON is not an object of its fields. */
function checkForm(context: Context, desc: DescMessage, json: JsonValue, place: JsonPath): JsonValue {
  const { findings } = context;
  const [value] = desc.fields;
  if (isWrapperDesc(desc) && value?.scalar !== undefined) return checkScalar(findings, value.scalar, json, place);
  switch (desc.typeName) {
    case "google.protobuf.Any":
      return checkAny(context, json, place);
    case "google.protobuf.Timestamp":
      return typeof json === "string" && isTimestamp(json) ? json : refused(findings, place, timestampRule, json);
    case "google.protobuf.Duration": {
      const duration = typeof json === "string" ? normalizeDuration(json) : undefined;
      if (duration === undefined) return refused(findings, place, durationRule, json);
      return changed(findings, json, duration);
    }
    case "google.protobuf.FieldMask":
      if (typeof json === "string" && isUnicode(json) && !json.includes("_")) return json;
      return refused(findings, place, "must be names of fields in lowerCamelCase, separated by commas", json);
    case "google.protobuf.Struct":
      if (!isObject(json)) return refused(findings, place, "must be an object", json);
      break;
    case "google.protobuf.ListValue":
      if (!Array.isArray(json)) return refused(findings, place, "must be a list", json);
      break;
  }
  checkValue(findings, json, place);
  return json;
}

function checkAny(context: Context, json: JsonValue, place: JsonPath): JsonValue {
  const { findings, registry } = context;
  if (!isObject(json)) return refused(findings, place, "must be an object", json);
  if (Object.keys(json).length === 0) return json;
  const { "@type": url, ...content } = json;
  const at = { above: place, at: "@type" };
  if (typeof url !== "string") return refused(findings, at, "must be the URL of a type", json);
  const desc = registry?.getMessage(url.slice(url.lastIndexOf("/") + 1));
  if (desc === undefined) return refused(findings, at, "must be the URL of a type that this service knows", json);
  if (!hasCustomJsonRepresentation(desc)) {
    return { "@type": url, ...(checkMessage(context, desc, content, place, undefined) as Record<string, JsonValue>) };
  }
  const { value, ...others } = content;
  for (const key of Object.keys(others))
    addViolation(findings, { above: place, at: key }, "is no field of this message");
  if (value === undefined) return refused(findings, { above: place, at: "value" }, "is required", json);
  return { "@type": url, value: checkForm(context, desc, value, { above: place, at: "value" }) };
}

/** Reports a broken rule, and returns the JSON for the check of the rest. */
function refused(findings: JsonViolations, place: JsonPath, rule: string, json: JsonValue): JsonValue {
  addViolation(findings, place, rule);
  return json;
}

function changed(findings: JsonViolations, before: JsonValue, after: JsonValue): JsonValue {
  if (before !== after) findings.isChanged = true;
  return after;
}

/** The fields that lie below a field, seen from its message. */
function below(paths: CheckOptions["elsewhere"], field: DescField): CheckOptions["elsewhere"] {
  if (paths === undefined || paths.length === 0) return paths;
  return paths.filter(([first, ...rest]) => first === field && rest.length > 0).map((path) => path.slice(1));
}

/** What the check of every message of a type needs. */
interface Plan {
  /** Whether its JSON is not an object of its fields. */
  readonly hasForm: boolean;
  readonly fields: ReadonlyMap<string, DescField>;
  readonly required: readonly DescField[];
}

const plans = new WeakMap<DescMessage, Plan>();

function planOf(desc: DescMessage): Plan {
  let plan = plans.get(desc);
  if (plan === undefined) {
    plan = {
      hasForm: hasCustomJsonRepresentation(desc),
      fields: fieldsByName(desc),
      required: desc.fields.filter((field) => getOption(field, field_behavior).includes(FieldBehavior.REQUIRED)),
    };
    plans.set(desc, plan);
  }
  return plan;
}

const enumValues = new WeakMap<DescEnum, ReadonlySet<unknown>>();

/** The names and the numbers of an enumeration. */
function valuesOf(desc: DescEnum): ReadonlySet<unknown> {
  let values = enumValues.get(desc);
  if (values === undefined) {
    values = new Set(desc.values.flatMap(({ name, number }) => [name, number]));
    enumValues.set(desc, values);
  }
  return values;
}

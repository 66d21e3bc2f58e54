import { type DescField, type DescMessage, getOption, type JsonValue, type Registry } from "@bufbuild/protobuf";
import { hasCustomJsonRepresentation, isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { FieldBehavior, field_behavior } from "#gen/google/api/field_behavior_pb.js";
import { acceptsNull, type FieldPath, fieldsByName } from "../fields.ts";
import { checkEnum, checkScalar, reportChange, reportViolation } from "./check-scalar.ts";
import { hideKey, isObject, setOwn } from "./objects.ts";
import type { RoundedNumbers } from "./rounded.ts";
import { isUnicode, normalizeKey, ruleOfKey } from "./scalars.ts";
import { checkValue } from "./struct.ts";
import { durationRule, isTimestamp, normalizeDuration, timestampRule } from "./times.ts";
import { addViolation, type JsonPath, type JsonViolations } from "./violations.ts";

export interface CheckOptions {
  /** The types that a google.protobuf.Any may contain. */
  readonly registry: Registry | undefined;
  /** REQUIRED fields that may be absent because the path or the query sets them; undefined: all may be absent. */
  readonly setElsewhere: readonly FieldPath[] | undefined;
  /** Numbers that JSON.parse has rounded: integer fields refuse them. */
  readonly rounded: RoundedNumbers | undefined;
}

export interface Checked extends Readonly<JsonViolations> {
  /** The JSON in a form that protobuf-es reads exactly, when there are no violations. */
  readonly json: JsonValue;
}

/**
 * Checks the JSON of a message against its descriptor. It is stricter than protobuf-es, which accepts 31 September,
 * "5s30m", "0x10" and "A==". Values that protobuf-es refuses or reads inexactly, such as "1e2" and "PT20S", are rewritten
 * in place.
 */
export function checkJson(desc: DescMessage, json: JsonValue, options: CheckOptions): Checked {
  const { registry, setElsewhere, rounded } = options;
  const found: JsonViolations = { violations: [], isChanged: false, hasHiddenKey: false, rounded };
  const checked = checkMessage({ found, registry }, desc, json, undefined, setElsewhere);
  return { ...found, json: checked };
}

interface Context {
  readonly found: JsonViolations;
  readonly registry: Registry | undefined;
}

function checkMessage(
  context: Context,
  desc: DescMessage,
  json: JsonValue,
  path: JsonPath,
  setElsewhere: CheckOptions["setElsewhere"],
): JsonValue {
  const plan = planOf(desc);
  if (plan.hasSpecialForm) return checkSpecialForm(context, desc, json, path);
  const { found } = context;
  if (!isObject(json)) return reportViolation(found, path, "must be an object", json);
  let chosen: Map<unknown, DescField> | undefined;
  for (const key of Object.keys(json)) {
    const field = plan.fields.get(key);
    const at = { above: path, at: key };
    const value = json[key] ?? null;
    if (field === undefined) addViolation(found, at, "must be a field of this message");
    else if (isSecondName(json, field, key))
      addViolation(found, at, `must be set once: as ${field.name} or as ${field.jsonName}`);
    else if (value === null && !acceptsNull(field)) {
      // Null means absent. protobuf-es would take it for the chosen member of the oneof.
      if (field.oneof !== undefined && Reflect.deleteProperty(json, key)) found.isChanged = true;
    } else {
      if (field.oneof !== undefined) {
        chosen ??= new Map();
        const other = chosen.get(field.oneof);
        if (other !== undefined) addViolation(found, at, `must not be set together with ${other.name}`);
        chosen.set(field.oneof, field);
      }
      const checked = checkField(context, field, value, at, setElsewhere);
      if (checked !== value) json[key] = checked;
    }
  }
  if (setElsewhere !== undefined) checkRequired(found, plan.required, json, path, setElsewhere);
  return json;
}

/** Whether the JSON has both names of a field, and this key is the second. */
function isSecondName(json: Record<string, JsonValue>, { name, jsonName }: DescField, key: string): boolean {
  if (name === jsonName) return false;
  const other = key === name ? jsonName : name;
  if (!Object.hasOwn(json, other)) return false;
  const keys = Object.keys(json);
  return keys.indexOf(other) < keys.indexOf(key);
}

function checkRequired(
  found: JsonViolations,
  fields: readonly DescField[],
  json: Record<string, JsonValue>,
  path: JsonPath,
  setElsewhere: readonly FieldPath[],
): void {
  for (const field of fields) {
    const value = json[field.name] ?? json[field.jsonName];
    // Null is a valid value of a wrapper.
    const isWrapper = field.message !== undefined && isWrapperDesc(field.message);
    const hasKey = Object.hasOwn(json, field.name) || Object.hasOwn(json, field.jsonName);
    if ((value ?? null) !== null || (hasKey && (isWrapper || acceptsNull(field)))) continue;
    if (!setElsewhere.some(([first]) => first === field)) {
      addViolation(found, { above: path, at: field.name }, "must be set");
    }
  }
}

function checkField(
  context: Context,
  field: DescField,
  json: JsonValue,
  path: JsonPath,
  setElsewhere: CheckOptions["setElsewhere"],
): JsonValue {
  switch (field.fieldKind) {
    case "scalar":
      return checkScalar(context.found, field.scalar, json, path);
    case "enum":
      return checkEnum(context.found, field.enum, json, path);
    case "message":
      return checkMessage(context, field.message, json, path, below(setElsewhere, field));
    case "map":
      return checkMap(context, field, json, path, inItems(setElsewhere));
    default: {
      if (!Array.isArray(json)) return reportViolation(context.found, path, "must be a list", json);
      for (let at = 0; at < json.length; at += 1) {
        const item = json[at] ?? null;
        const checked = checkItem(context, field, item, { above: path, at }, inItems(setElsewhere));
        if (checked !== item) json[at] = checked;
      }
      return json;
    }
  }
}

/** The path and the query set fields of messages, never of the items of a list or map. */
function inItems(setElsewhere: CheckOptions["setElsewhere"]): CheckOptions["setElsewhere"] {
  return setElsewhere && noFields;
}

const noFields: readonly FieldPath[] = [];

function checkMap(
  context: Context,
  field: DescField & { fieldKind: "map" },
  json: JsonValue,
  path: JsonPath,
  setElsewhere: CheckOptions["setElsewhere"],
) {
  const { found } = context;
  if (!isObject(json)) return reportViolation(found, path, "must be an object", json);
  for (const [key, item] of Object.entries(json)) {
    const at = { above: path, at: key };
    const normal = normalizeKey(field.mapKey, key);
    if (normal === undefined) addViolation(found, at, `the key ${ruleOfKey(field.mapKey)}`);
    else if (normal !== key && Object.hasOwn(json, normal)) addViolation(found, at, "must be set once");
    setOwn(json, key, checkItem(context, field, item, at, setElsewhere));
  }
  if (hideKey(json)) found.hasHiddenKey = true;
  return json;
}

/** Checks one value: of a field, or of an item in its list or map. */
function checkItem(
  context: Context,
  field: DescField,
  json: JsonValue,
  path: JsonPath,
  setElsewhere: CheckOptions["setElsewhere"],
): JsonValue {
  const { found } = context;
  if (json === null && !acceptsNull(field)) return reportViolation(found, path, "must not be null", json);
  if (field.message !== undefined) return checkMessage(context, field.message, json, path, setElsewhere);
  if (field.enum !== undefined) return checkEnum(found, field.enum, json, path);
  return checkScalar(found, field.scalar, json, path);
}

/** Checks a message whose JSON is not an object of its fields. */
function checkSpecialForm(context: Context, desc: DescMessage, json: JsonValue, path: JsonPath): JsonValue {
  const { found } = context;
  const [value] = desc.fields;
  if (isWrapperDesc(desc) && value?.scalar !== undefined) return checkScalar(found, value.scalar, json, path);
  switch (desc.typeName) {
    case "google.protobuf.Any":
      return checkAny(context, json, path);
    case "google.protobuf.Timestamp":
      return typeof json === "string" && isTimestamp(json) ? json : reportViolation(found, path, timestampRule, json);
    case "google.protobuf.Duration": {
      const duration = typeof json === "string" ? normalizeDuration(json) : undefined;
      if (duration === undefined) return reportViolation(found, path, durationRule, json);
      return reportChange(found, json, duration);
    }
    case "google.protobuf.FieldMask":
      if (typeof json === "string" && isUnicode(json) && !json.includes("_")) return json;
      return reportViolation(found, path, "must be names of fields in lowerCamelCase, separated by commas", json);
    case "google.protobuf.Struct":
      if (!isObject(json)) return reportViolation(found, path, "must be an object", json);
      break;
    case "google.protobuf.ListValue":
      if (!Array.isArray(json)) return reportViolation(found, path, "must be a list", json);
      break;
  }
  checkValue(found, json, path);
  return json;
}

function checkAny(context: Context, json: JsonValue, path: JsonPath): JsonValue {
  const { found, registry } = context;
  if (!isObject(json)) return reportViolation(found, path, "must be an object", json);
  if (Object.keys(json).length === 0) return json;
  const { "@type": url, ...content } = json;
  const at = { above: path, at: "@type" };
  if (typeof url !== "string") return reportViolation(found, at, "must be a type URL", json);
  const desc = registry?.getMessage(url.slice(url.lastIndexOf("/") + 1));
  if (desc === undefined)
    return reportViolation(found, at, "must be the URL of a type that this service supports", json);
  if (!hasCustomJsonRepresentation(desc)) {
    return { "@type": url, ...(checkMessage(context, desc, content, path, undefined) as Record<string, JsonValue>) };
  }
  const { value, ...others } = content;
  for (const key of Object.keys(others))
    addViolation(found, { above: path, at: key }, "must be a field of this message");
  if (value === undefined) return reportViolation(found, { above: path, at: "value" }, "must be set", json);
  return { "@type": url, value: checkSpecialForm(context, desc, value, { above: path, at: "value" }) };
}

/** Returns the paths that continue below a field, relative to its message. */
function below(paths: CheckOptions["setElsewhere"], field: DescField): CheckOptions["setElsewhere"] {
  if (paths === undefined || paths.length === 0) return paths;
  return paths.filter(([first, ...rest]) => first === field && rest.length > 0).map((path) => path.slice(1));
}

/** Prepared data for checking messages of one type. */
interface Plan {
  /** Whether its JSON is not an object of its fields. */
  readonly hasSpecialForm: boolean;
  readonly fields: ReadonlyMap<string, DescField>;
  readonly required: readonly DescField[];
}

const plans = new WeakMap<DescMessage, Plan>();

function planOf(desc: DescMessage): Plan {
  let plan = plans.get(desc);
  if (plan === undefined) {
    plan = {
      hasSpecialForm: hasCustomJsonRepresentation(desc),
      fields: fieldsByName(desc),
      required: desc.fields.filter((field) => getOption(field, field_behavior).includes(FieldBehavior.REQUIRED)),
    };
    plans.set(desc, plan);
  }
  return plan;
}

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
import { type Findings, type Place, refuse } from "./findings.ts";
import { hideKey, isObject, setOwn } from "./objects.ts";
import { isUnicode, normalizeKey, normalizeScalar, ruleOfKey, ruleOfScalar } from "./scalars.ts";
import { checkValue } from "./struct.ts";
import { durationRule, isTimestamp, normalizeDuration, timestampRule } from "./times.ts";

export interface CheckOptions {
  /** The types that a google.protobuf.Any may hold. */
  readonly registry: Registry | undefined;
  /** The fields that the JSON need not have though they are REQUIRED; undefined: it need not have any. */
  readonly elsewhere: readonly FieldPath[] | undefined;
}

export interface Checked extends Readonly<Findings> {
  /** The JSON as protobuf-es reads it exactly, if no rule is broken. */
  readonly json: JsonValue;
}

/**
 * Checks the JSON of a message against its descriptor, more strictly than protobuf-es, which reads 31 September, "5s30m",
 * "0x10" and "A==" as something. Rewrites in place what protobuf-es refuses or reads inexactly: "1e2", "PT20S".
 */
export function checkJson(desc: DescMessage, json: JsonValue, { registry, elsewhere }: CheckOptions): Checked {
  const findings: Findings = { violations: [], isChanged: false, hasHiddenKey: false };
  const checked = checkMessage({ findings, registry }, desc, json, { place: undefined, elsewhere });
  return { ...findings, json: checked };
}

interface Context {
  readonly findings: Findings;
  readonly registry: Registry | undefined;
}

interface Position {
  readonly place: Place;
  readonly elsewhere: CheckOptions["elsewhere"];
}

function checkMessage(context: Context, desc: DescMessage, json: JsonValue, position: Position): JsonValue {
  if (hasCustomJsonRepresentation(desc)) return checkForm(context, desc, json, position.place);
  const { findings } = context;
  const { place, elsewhere } = position;
  if (!isObject(json)) return refused(findings, place, "must be an object", json);
  const fields = fieldsByName(desc);
  const seen = new Set<DescField>();
  const chosen = new Map<unknown, DescField>();
  const missing = new Set(elsewhere === undefined ? [] : requiredFields(desc));
  for (const key of Object.keys(json)) {
    const field = fields.get(key);
    const at = { above: place, at: key };
    const value = json[key] ?? null;
    if (field === undefined) refuse(findings, at, "is no field of this message");
    else if (seen.has(field)) refuse(findings, at, `is given twice: ${field.name} and ${field.jsonName}`);
    else if (value === null && !acceptsNull(field)) {
      // Null says that a value is absent; it is how a caller gives a wrapper.
      if (field.message !== undefined && isWrapperDesc(field.message)) missing.delete(field);
      // protobuf-es takes it for a member of the oneof that is given.
      if (field.oneof !== undefined && Reflect.deleteProperty(json, key)) findings.isChanged = true;
    } else {
      missing.delete(field);
      const other = field.oneof && chosen.get(field.oneof);
      if (other !== undefined) refuse(findings, at, `excludes ${other.name}, which is given too`);
      if (field.oneof !== undefined) chosen.set(field.oneof, field);
      json[key] = checkField(context, field, value, { place: at, elsewhere: below(elsewhere, field) });
    }
    if (field !== undefined) seen.add(field);
  }
  for (const field of missing) {
    const isElsewhere = elsewhere?.some(([first]) => first === field) === true;
    if (!isElsewhere) refuse(findings, { above: place, at: field.name }, "is required");
  }
  return json;
}

function checkField(context: Context, field: DescField, json: JsonValue, position: Position): JsonValue {
  const { place, elsewhere } = position;
  // What the path or the query gives lies in messages, never in an item of a list or a map.
  const whole = { ...context, elsewhere: elsewhere && [] };
  if (field.fieldKind === "message") return checkMessage(context, field.message, json, position);
  if (field.fieldKind === "map") return checkMap(whole, field, json, place);
  if (field.fieldKind !== "list") return checkItem(whole, field, json, place);
  if (!Array.isArray(json)) return refused(context.findings, place, "must be a list", json);
  for (const [at, item] of json.entries()) json[at] = checkItem(whole, field, item, { above: place, at });
  return json;
}

interface ItemContext extends Context {
  readonly elsewhere: CheckOptions["elsewhere"];
}

function checkMap(context: ItemContext, field: DescField & { fieldKind: "map" }, json: JsonValue, place: Place) {
  const { findings } = context;
  if (!isObject(json)) return refused(findings, place, "must be an object", json);
  for (const [key, item] of Object.entries(json)) {
    const at = { above: place, at: key };
    const normal = normalizeKey(field.mapKey, key);
    if (normal === undefined) refuse(findings, at, `the key ${ruleOfKey(field.mapKey)}`);
    else if (normal !== key && Object.hasOwn(json, normal)) refuse(findings, at, "is given twice");
    setOwn(json, key, checkItem(context, field, item, at));
  }
  if (hideKey(json)) findings.hasHiddenKey = true;
  return json;
}

/** Checks one value: a field's, or an item's of its list or map. */
function checkItem(context: ItemContext, field: DescField, json: JsonValue, place: Place): JsonValue {
  const { findings, elsewhere } = context;
  if (json === null && !acceptsNull(field)) return refused(findings, place, "must not be null", json);
  if (field.message !== undefined) return checkMessage(context, field.message, json, { place, elsewhere });
  if (field.enum !== undefined) return checkEnum(findings, field.enum, json, place);
  return checkScalar(findings, field.scalar, json, place);
}

function checkScalar(findings: Findings, type: ScalarType, json: JsonValue, place: Place): JsonValue {
  const normal = normalizeScalar(type, json);
  return normal === undefined
    ? refused(findings, place, ruleOfScalar(type, json), json)
    : changed(findings, json, normal);
}

function checkEnum(findings: Findings, desc: DescEnum, json: JsonValue, place: Place): JsonValue {
  const isKnown = desc.values.some(({ name, number }) => name === json || number === json);
  if (isKnown || (json === null && desc.typeName === "google.protobuf.NullValue")) return json;
  if (desc.open && Number.isInteger(json) && normalizeScalar(ScalarType.INT32, json) !== undefined) return json;
  const names = desc.values.map(({ name }) => name).filter((name) => !name.endsWith("UNSPECIFIED"));
  return refused(findings, place, `must be one of ${names.join(", ")}`, json);
}

/** Checks a message whose JSON is not an object of its fields. */
function checkForm(context: Context, desc: DescMessage, json: JsonValue, place: Place): JsonValue {
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

function checkAny(context: Context, json: JsonValue, place: Place): JsonValue {
  const { findings, registry } = context;
  if (!isObject(json)) return refused(findings, place, "must be an object", json);
  if (Object.keys(json).length === 0) return json;
  const { "@type": url, ...content } = json;
  const at = { above: place, at: "@type" };
  if (typeof url !== "string") return refused(findings, at, "must be the URL of a type", json);
  const desc = registry?.getMessage(url.slice(url.lastIndexOf("/") + 1));
  if (desc === undefined) return refused(findings, at, "must be the URL of a type that this service knows", json);
  const position = { place, elsewhere: undefined };
  if (!hasCustomJsonRepresentation(desc)) {
    return { "@type": url, ...(checkMessage(context, desc, content, position) as Record<string, JsonValue>) };
  }
  const { value, ...others } = content;
  for (const key of Object.keys(others)) refuse(findings, { above: place, at: key }, "is no field of this message");
  if (value === undefined) return refused(findings, { above: place, at: "value" }, "is required", json);
  return { "@type": url, value: checkForm(context, desc, value, { above: place, at: "value" }) };
}

/** Reports a broken rule, and returns the JSON for the check of the rest. */
function refused(findings: Findings, place: Place, rule: string, json: JsonValue): JsonValue {
  refuse(findings, place, rule);
  return json;
}

function changed(findings: Findings, before: JsonValue, after: JsonValue): JsonValue {
  if (before !== after) findings.isChanged = true;
  return after;
}

/** The fields that lie below a field, seen from its message. */
function below(paths: CheckOptions["elsewhere"], field: DescField): CheckOptions["elsewhere"] {
  if (paths === undefined || paths.length === 0) return paths;
  return paths.filter(([first, ...rest]) => first === field && rest.length > 0).map((path) => path.slice(1));
}

const required = new WeakMap<DescMessage, readonly DescField[]>();

function requiredFields(desc: DescMessage): readonly DescField[] {
  let fields = required.get(desc);
  if (fields === undefined) {
    fields = desc.fields.filter((field) => getOption(field, field_behavior).includes(FieldBehavior.REQUIRED));
    required.set(desc, fields);
  }
  return fields;
}

import {
  type DescField,
  type DescMessage,
  fromJson,
  getOption,
  type JsonValue,
  type Message,
} from "@bufbuild/protobuf";
import { FieldBehavior, field_behavior } from "#gen/google/api/field_behavior_pb.js";
import type { FieldViolation } from "../../call/bounds.ts";
import { invalidRequest } from "../../call/errors.ts";
import { badField } from "../errors.ts";
import { type FieldPath, fieldsByName, isLong, isWellKnown } from "../fields.ts";
import { locate } from "./locate.ts";
import { type JsonLimits, joinPath, scanJson } from "./scan.ts";
import { isWrapper } from "./write.ts";

/** The value of a JSON text. @throws INVALID_ARGUMENT for what is no JSON, repeats a key, or is beyond the limits */
export function parseJson(text: string, limits: JsonLimits): JsonValue {
  scanJson(text, limits);
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    throw badField("", "the body is no JSON");
  }
}

/**
 * A message from its JSON. Ignores nothing: an unknown field, one under both of its names, a value of another type, or
 * an absent field that is declared REQUIRED is INVALID_ARGUMENT and named with its path.
 * @param elsewhere fields whose values come from elsewhere, so that the JSON need not have them
 */
export function readMessage(desc: DescMessage, json: JsonValue, elsewhere: readonly FieldPath[]): Message {
  const violations = violationsOf(desc, json, "", elsewhere);
  if (violations.length > 0) throw invalidRequest(violations);
  try {
    return fromJson(desc, json);
  } catch (error) {
    throw invalidRequest([locate(desc, json, error)]);
  }
}

/** Whether the JSON of a message has a value, even if it is the zero, for a field. */
export function isGiven(json: JsonValue | undefined, path: FieldPath): boolean {
  let value = json;
  for (const { name, jsonName } of path) {
    if (!isObject(value)) return false;
    value = value[name] ?? value[jsonName];
  }
  return value !== undefined && value !== null;
}

/** What protobuf's own reading does not see, or does not name; prepared once, since most fields need nothing. */
interface Shape {
  readonly required: readonly DescField[];
  /** The fields whose values are looked at: they are messages, or numbers that JSON may have rounded. */
  readonly deep: ReadonlySet<DescField>;
}

const shapes = new WeakMap<DescMessage, Shape>();

function shapeOf(desc: DescMessage): Shape {
  let shape = shapes.get(desc);
  if (shape === undefined) {
    shape = {
      required: desc.fields.filter((field) => getOption(field, field_behavior).includes(FieldBehavior.REQUIRED)),
      deep: new Set(desc.fields.filter((field) => isLong(field) || (field.message && !isWellKnown(field.message)))),
    };
    shapes.set(desc, shape);
  }
  return shape;
}

function violationsOf(
  desc: DescMessage,
  json: JsonValue,
  path: string,
  elsewhere: readonly FieldPath[],
): FieldViolation[] {
  if (isWellKnown(desc) || !isObject(json)) return [];
  const fields = fieldsByName(desc);
  const { required, deep } = shapeOf(desc);
  const violations: FieldViolation[] = [];
  const given = new Set<DescField>();
  const chosen = new Map<unknown, DescField>();
  for (const [key, value] of Object.entries(json)) {
    const field = fields.get(key);
    if (field === undefined) report(key, "is no field of this message");
    else if (given.has(field)) report(key, `is given twice: ${field.name} and ${field.jsonName}`);
    else {
      // Null is how JSON says that a value is absent, unless it is the very value of a wrapper.
      if (value !== null || (field.message !== undefined && isWrapper(field.message))) given.add(field);
      if (deep.has(field)) violations.push(...violationsIn(field, value, joinPath(path, key), elsewhere));
      const other = chosen.get(field.oneof);
      if (other !== undefined && value !== null) report(key, `excludes ${other.name}, which is given too`);
      if (field.oneof !== undefined && value !== null) chosen.set(field.oneof, field);
    }
  }
  for (const field of required) {
    if (!given.has(field) && !elsewhere.some(([first]) => first === field)) report(field.name, "is required");
  }
  return violations;

  function report(name: string, description: string): void {
    violations.push({ field: joinPath(path, name), description });
  }
}

function violationsIn(
  field: DescField,
  value: JsonValue,
  path: string,
  elsewhere: readonly FieldPath[],
): FieldViolation[] {
  if (field.fieldKind === "list" && Array.isArray(value)) {
    return value.flatMap((item, index) => violationsOfOne(field, item, joinPath(path, index), []));
  }
  if (field.fieldKind === "map" && isObject(value)) {
    return Object.entries(value).flatMap(([key, item]) => violationsOfOne(field, item, joinPath(path, key), []));
  }
  const below = elsewhere.filter(([first, ...rest]) => first === field && rest.length > 0);
  return violationsOfOne(
    field,
    value,
    path,
    below.map((way) => way.slice(1)),
  );
}

function violationsOfOne(
  field: DescField,
  value: JsonValue,
  path: string,
  elsewhere: readonly FieldPath[],
): FieldViolation[] {
  if (field.message !== undefined && !isWellKnown(field.message)) {
    return violationsOf(field.message, value, path, elsewhere);
  }
  // JSON.parse has read such a number as another one nearby.
  if (typeof value !== "number" || !Number.isInteger(value) || Number.isSafeInteger(value)) return [];
  return [{ field: path, description: "must be written as a string where it is beyond 2^53" }];
}

function isObject(json: JsonValue | undefined): json is Record<string, JsonValue> {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

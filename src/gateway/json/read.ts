import {
  type DescField,
  type DescMessage,
  fromJson,
  getOption,
  type JsonValue,
  type Message,
} from "@bufbuild/protobuf";
import { FieldBehavior, field_behavior } from "#gen/google/api/field_behavior_pb.js";
import { badField, badRequest, type FieldViolation, reasonOf } from "../errors.ts";
import { type JsonLimits, joinPath, scanJson } from "./scan.ts";

/**
 * A message from a JSON text. Ignores nothing: an unknown or repeated field, one under both of its names, a value of
 * another type, or an absent field that is declared REQUIRED is INVALID_ARGUMENT and named with its path.
 */
export function readMessage(desc: DescMessage, text: string, limits: JsonLimits): Message {
  scanJson(text, limits);
  const json = parse(text);
  const violations = violationsOf(desc, json, "");
  if (violations.length > 0) throw badRequest(violations);
  try {
    return fromJson(desc, json);
  } catch {
    throw badRequest([locate(desc, json, "") ?? { field: "", description: "is not valid" }]);
  }
}

function parse(text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    throw badField("", "the body is no JSON");
  }
}

/** What a message's fields are called, and which of them a body must have. */
interface Shape {
  readonly fields: ReadonlyMap<string, DescField>;
  readonly required: readonly DescField[];
}

const shapes = new WeakMap<DescMessage, Shape>();

function shapeOf(desc: DescMessage): Shape {
  let shape = shapes.get(desc);
  if (shape === undefined) {
    const names = desc.fields.flatMap((field) => [[field.name, field] as const, [field.jsonName, field] as const]);
    const required = desc.fields.filter((field) => getOption(field, field_behavior).includes(FieldBehavior.REQUIRED));
    shape = { fields: new Map(names), required };
    shapes.set(desc, shape);
  }
  return shape;
}

/** What protobuf's own reading does not see, or does not name. */
function violationsOf(desc: DescMessage, json: JsonValue, path: string): FieldViolation[] {
  if (!isPlain(desc, json)) return [];
  const { fields, required } = shapeOf(desc);
  const violations: FieldViolation[] = [];
  const given = new Set<DescField>();
  for (const [key, value] of Object.entries(json)) {
    const at = joinPath(path, key);
    const field = fields.get(key);
    if (field === undefined) violations.push({ field: at, description: "is no field of this message" });
    else if (given.has(field))
      violations.push({ field: at, description: `is given twice: ${field.name} and ${field.jsonName}` });
    else {
      given.add(field);
      for (const [inner, element, innerPath] of messagesIn(field, value, at)) {
        violations.push(...violationsOf(inner, element, innerPath));
      }
    }
  }
  for (const field of required) {
    if (!given.has(field)) violations.push({ field: joinPath(path, field.name), description: "is required" });
  }
  return violations;
}

/** The field that does not read, looked for only when reading has failed. */
function locate(desc: DescMessage, json: JsonValue, path: string): FieldViolation | undefined {
  if (!isPlain(desc, json)) return { field: path, description: "must be an object" };
  const { fields } = shapeOf(desc);
  for (const [key, value] of Object.entries(json)) {
    const field = fields.get(key);
    if (field === undefined) continue;
    const at = joinPath(path, key);
    for (const [inner, element, innerPath] of messagesIn(field, value, at)) {
      if (!reads(inner, element))
        return locate(inner, element, innerPath) ?? { field: innerPath, description: "is not valid" };
    }
    try {
      fromJson(desc, { [key]: value });
    } catch (error) {
      return { field: at, description: reasonOf(field, error) };
    }
  }
  return undefined;
}

/** The messages right below a field whose JSON is an object of their fields, with their paths. */
function* messagesIn(field: DescField, value: JsonValue, path: string): Generator<[DescMessage, JsonValue, string]> {
  if (field.message === undefined || field.message.typeName.startsWith("google.protobuf.")) return;
  if (field.fieldKind === "message") yield [field.message, value, path];
  if (field.fieldKind === "list" && Array.isArray(value)) {
    for (const [index, element] of value.entries()) yield [field.message, element, joinPath(path, index)];
  }
  if (field.fieldKind === "map" && isObject(value)) {
    for (const [key, element] of Object.entries(value)) yield [field.message, element, joinPath(path, key)];
  }
}

/** Whether the JSON is an object with the message's fields: well-known types have forms of their own. */
function isPlain(desc: DescMessage, json: JsonValue): json is Record<string, JsonValue> {
  return !desc.typeName.startsWith("google.protobuf.") && isObject(json);
}

function isObject(json: JsonValue): json is Record<string, JsonValue> {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function reads(desc: DescMessage, json: JsonValue): boolean {
  try {
    fromJson(desc, json);
    return true;
  } catch {
    return false;
  }
}

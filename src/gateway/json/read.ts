import { type DescField, type DescMessage, fromJson, type JsonValue, type Message } from "@bufbuild/protobuf";
import { invalidRequest } from "../../call/errors.ts";
import { badField } from "../errors.ts";
import { type FieldPath, fieldsByName, isNullable } from "../fields.ts";
import { type CheckOptions, checkJson } from "./check.ts";
import { isObject, showKeys } from "./objects.ts";
import type { RoundedNumbers } from "./rounded.ts";
import { type JsonLimits, scanJson } from "./scan.ts";

export interface ParsedJson {
  readonly json: JsonValue;
  /** Numbers that JSON.parse has rounded to integers; undefined when there are none. */
  readonly rounded: RoundedNumbers | undefined;
}

/** Parses a JSON text. @throws INVALID_ARGUMENT when it is invalid, repeats a key, or exceeds a limit */
export function parseRequestJson(text: string, limits: JsonLimits): ParsedJson {
  const rounded = scanJson(text, limits);
  try {
    return { json: JSON.parse(text) as JsonValue, rounded };
  } catch {
    throw badField("", "the body must be valid JSON");
  }
}

/**
 * Reads a message from JSON. Nothing is ignored.
 * @throws INVALID_ARGUMENT that names the path, for an unknown field, a field under both of its names, a value of another
 * type, and an absent REQUIRED field
 */
export function readMessage(desc: DescMessage, json: JsonValue, options: CheckOptions): Message {
  const checked = checkJson(desc, json, options);
  if (checked.violations.length > 0) throw invalidRequest(checked.violations);
  const message = fromJson(desc, checked.json, options.registry && { registry: options.registry });
  if (checked.hasHiddenKey) showKeys(message);
  return message;
}

/**
 * Creates a text decoder for readers that parse JSON with protobuf-es only, such as Connect. It returns JSON that
 * protobuf-es reads exactly, and throws where readMessage throws, except that REQUIRED fields may be absent: Connect
 * clients leave out zeros.
 */
export function createJsonDecoder(desc: DescMessage, limits: JsonLimits): { decode(bytes?: Uint8Array): string } {
  return {
    decode(bytes) {
      const text = decodeUtf8(bytes ?? new Uint8Array());
      const { json, rounded } = parseRequestJson(text, limits);
      const checked = checkJson(desc, json, { registry: undefined, setElsewhere: undefined, rounded });
      if (checked.violations.length > 0) throw invalidRequest(checked.violations);
      if (checked.hasHiddenKey) throw badField("", "the body must not have a key __proto__");
      return checked.isChanged ? JSON.stringify(checked.json) : text;
    },
  };
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** @throws INVALID_ARGUMENT when the bytes are not UTF-8 */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw badField("", "the body must be UTF-8");
  }
}

/**
 * Lists the fields that the JSON of a patch sets, as the .proto spells them.
 * @throws INVALID_ARGUMENT when a field is null and cannot be
 */
export function patchedFields(desc: DescMessage, json: JsonValue): string[] {
  const fields = fieldsByName(desc);
  return Object.entries(json as object).map(([key, value]) => {
    const field = fields.get(key) as DescField;
    if (value === null && !isNullable(field)) throw badField(key, "must not be null");
    return field.name;
  });
}

/** Whether the JSON of a message sets a field, even to zero. */
export function isSetInJson(json: JsonValue | undefined, path: FieldPath): boolean {
  let value = json;
  for (const { name, jsonName } of path) {
    if (!isObject(value)) return false;
    value = value[name] ?? value[jsonName];
  }
  return value !== undefined && value !== null;
}

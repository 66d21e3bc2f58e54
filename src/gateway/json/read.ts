import { type DescField, type DescMessage, fromJson, type JsonValue, type Message } from "@bufbuild/protobuf";
import { invalidRequest } from "../../call/errors.ts";
import { badField } from "../errors.ts";
import { type FieldPath, fieldsByName, isNullable } from "../fields.ts";
import { type CheckOptions, checkJson } from "./check.ts";
import { isObject, showKeys } from "./objects.ts";
import { type JsonLimits, type RoundedNumbers, scanJson } from "./scan.ts";

export interface ParsedJson {
  readonly json: JsonValue;
  readonly rounded: RoundedNumbers | undefined;
}

/** The value of a JSON text, and which of its numbers are rounded. @throws INVALID_ARGUMENT for what is no JSON, repeats a key, or is beyond the limits */
export function parseRequestJson(text: string, limits: JsonLimits): ParsedJson {
  const rounded = scanJson(text, limits);
  try {
    return { json: JSON.parse(text) as JsonValue, rounded };
  } catch {
    throw badField("", "the body is no JSON");
  }
}

/**
 * A message from its JSON. Ignores nothing: an unknown field, one under both of its names, a value of another type, or
 * an absent field that is declared REQUIRED is INVALID_ARGUMENT and named with its path.
 */
export function readMessage(desc: DescMessage, json: JsonValue, options: CheckOptions): Message {
  const checked = checkJson(desc, json, options);
  if (checked.violations.length > 0) throw invalidRequest(checked.violations);
  const message = fromJson(desc, checked.json, options.registry && { registry: options.registry });
  if (checked.hasHiddenKey) showKeys(message);
  return message;
}

/**
 * A decoder of JSON texts for readers that parse by protobuf-es alone, such as Connect's: it returns the text of a message
 * that protobuf-es reads exactly, and refuses what readMessage refuses. REQUIRED fields may be absent: such clients leave
 * out zeros.
 */
export function createJsonDecoder(desc: DescMessage, limits: JsonLimits): { decode(bytes?: Uint8Array): string } {
  return {
    decode(bytes) {
      const text = decodeUtf8(bytes ?? new Uint8Array());
      const { json, rounded } = parseRequestJson(text, limits);
      const checked = checkJson(desc, json, { registry: undefined, elsewhere: undefined, rounded });
      if (checked.violations.length > 0) throw invalidRequest(checked.violations);
      if (checked.hasHiddenKey) throw badField("", "the body must not have a key __proto__");
      return checked.isChanged ? JSON.stringify(checked.json) : text;
    },
  };
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** @throws INVALID_ARGUMENT for bytes that are not UTF-8 */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw badField("", "the body is not UTF-8");
  }
}

/**
 * The fields that the JSON of a patch names, as the .proto spells them.
 * @throws INVALID_ARGUMENT for null where the field cannot be null: a patch would clear it
 */
export function patchedFields(desc: DescMessage, json: JsonValue): string[] {
  const fields = fieldsByName(desc);
  return Object.entries(json as object).map(([key, value]) => {
    const field = fields.get(key) as DescField;
    if (value === null && !isNullable(field)) throw badField(key, "must not be null");
    return field.name;
  });
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

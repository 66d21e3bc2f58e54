import {
  type DescField,
  type DescMessage,
  fromBinary,
  type JsonValue,
  type Message,
  type Registry,
  ScalarType,
  toJson,
} from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import {
  type Any,
  FeatureSet_FieldPresence,
  hasCustomJsonRepresentation,
  isWrapperDesc,
  type ListValue,
  type Struct,
  type Value,
} from "@bufbuild/protobuf/wkt";
import { isNullable } from "../fields.ts";
import { setOwn } from "./objects.ts";
import { writeListValue, writeStruct, writeValue } from "./struct.ts";
import { toIsoDuration } from "./times.ts";

/**
 * Returns the JSON of a message. Names are as in the .proto, defaults are written, unset nullable fields are `null`, 64-bit
 * integers are numbers up to 2^53 and strings beyond, and durations are ISO 8601.
 * @param registry the types that a google.protobuf.Any may contain; others are written as bytes
 */
export function writeMessage(desc: DescMessage, message: Message, registry: Registry | undefined): JsonValue {
  return write(reflect(desc, message), registry);
}

/** Prepared data for writing a field. */
interface FieldPlan {
  readonly field: DescField;
  /** Whether the unset field is written as null. */
  readonly isNullable: boolean;
  readonly isImplicit: boolean;
}

const plans = new WeakMap<DescMessage, readonly FieldPlan[]>();

function planOf(desc: DescMessage): readonly FieldPlan[] {
  let known = plans.get(desc);
  if (known === undefined) {
    known = desc.fields
      .toSorted((left, right) => left.number - right.number)
      .map((field) => ({
        field,
        isNullable: isNullable(field),
        isImplicit: field.presence === FeatureSet_FieldPresence.IMPLICIT,
      }));
    plans.set(desc, known);
  }
  return known;
}

function write(message: ReflectMessage, registry: Registry | undefined): JsonValue {
  if (hasCustomJsonRepresentation(message.desc)) return writeSpecialForm(message, registry);
  const json: Record<string, JsonValue> = {};
  for (const { field, isNullable, isImplicit } of planOf(message.desc)) {
    if (message.isSet(field) || isImplicit) json[field.name] = writeField(message, field, registry);
    else if (isNullable) json[field.name] = null;
  }
  return json;
}

function writeField(message: ReflectMessage, field: DescField, registry: Registry | undefined): JsonValue {
  // A field has a Struct as plain JSON already. Reflection would lose a key "__proto__".
  if (field.message?.typeName === "google.protobuf.Struct" && message.desc.typeName !== "google.protobuf.Value") {
    return localValue(message, field) as JsonValue;
  }
  if (field.fieldKind === "list") return [...message.get(field)].map((item) => writeItem(field, item, registry));
  if (field.fieldKind !== "map") return writeItem(field, message.get(field), registry);
  const json = {};
  for (const [key, value] of message.get(field)) setOwn(json, String(key), writeItem(field, value, registry));
  return json;
}

function localValue({ message }: ReflectMessage, field: DescField): unknown {
  const fields = message as unknown as Record<string, unknown>;
  return field.oneof === undefined
    ? fields[field.localName]
    : (fields[field.oneof.localName] as { readonly value: unknown }).value;
}

/** Writes one value: of a field, or of an item in its list or map. */
function writeItem(field: DescField, value: unknown, registry: Registry | undefined): JsonValue {
  if (field.message !== undefined) return write(value as ReflectMessage, registry);
  if (field.enum === undefined) return writeScalar(field.scalar, value);
  if (field.enum.typeName === "google.protobuf.NullValue") return null;
  return field.enum.value[value as number]?.name ?? (value as number);
}

function writeScalar(type: ScalarType, value: unknown): JsonValue {
  if (typeof value === "bigint") {
    const number = Number(value);
    // Beyond 2^53 a JSON number would be inexact.
    return Number.isSafeInteger(number) ? number : String(value);
  }
  if (type === ScalarType.BYTES) return toBase64(value as Uint8Array);
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  return value as JsonValue;
}

/** Writes a message whose JSON is not an object of its fields. */
function writeSpecialForm(reflected: ReflectMessage, registry: Registry | undefined): JsonValue {
  const { desc, message } = reflected;
  const [value] = desc.fields;
  if (isWrapperDesc(desc) && value?.scalar !== undefined) return writeScalar(value.scalar, reflected.get(value));
  switch (desc.typeName) {
    case "google.protobuf.Any":
      return writeAny(message as Any, registry);
    case "google.protobuf.Struct":
      return writeStruct(message as Struct);
    case "google.protobuf.Value":
      return writeValue(message as Value);
    case "google.protobuf.ListValue":
      return writeListValue(message as ListValue);
    case "google.protobuf.Duration":
      return toIsoDuration(String(toJson(desc, message)));
    default:
      return toJson(desc, message);
  }
}

/** Writes an Any. An unknown type or invalid bytes do not fail the call: the bytes are written. */
function writeAny({ typeUrl, value }: Any, registry: Registry | undefined): JsonValue {
  if (typeUrl === "") return {};
  const desc = registry?.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
  const content = desc && unpack(desc, value);
  if (content === undefined) return { "@type": typeUrl, value: toBase64(value) };
  const json = write(content, registry);
  return hasCustomJsonRepresentation(content.desc)
    ? { "@type": typeUrl, value: json }
    : { "@type": typeUrl, ...(json as Record<string, JsonValue>) };
}

function unpack(desc: DescMessage, bytes: Uint8Array): ReflectMessage | undefined {
  try {
    return reflect(desc, fromBinary(desc, bytes));
  } catch {
    return undefined;
  }
}

function toBase64({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
}

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
import { toIsoDuration } from "./durations.ts";
import { setOwn } from "./objects.ts";
import { writeListValue, writeStruct, writeValue } from "./struct.ts";

/**
 * The JSON of a message: names as in the .proto, defaults written out, `null` for an unset field that may be
 * null, 64-bit integers as numbers, which is exact within 2^53, and durations in ISO 8601.
 * @param registry the types that a google.protobuf.Any may hold; others are written as their bytes
 */
export function writeMessage(desc: DescMessage, message: Message, registry: Registry | undefined): JsonValue {
  return write(reflect(desc, message), registry);
}

/** What is known of a message's fields before there is a message. */
interface Shape {
  readonly field: DescField;
  /** A field that is null while it is unset. A member of a oneof is left out: null would set it. */
  readonly isNullable: boolean;
  readonly isImplicit: boolean;
}

const shapes = new WeakMap<DescMessage, readonly Shape[]>();

function shapesOf(desc: DescMessage): readonly Shape[] {
  let known = shapes.get(desc);
  if (known === undefined) {
    known = desc.fields
      .toSorted((one, other) => one.number - other.number)
      .map((field) => ({
        field,
        isNullable: isNullable(field),
        isImplicit: field.presence === FeatureSet_FieldPresence.IMPLICIT,
      }));
    shapes.set(desc, known);
  }
  return known;
}

function write(message: ReflectMessage, registry: Registry | undefined): JsonValue {
  if (hasCustomJsonRepresentation(message.desc)) return writeForm(message, registry);
  const json: Record<string, JsonValue> = {};
  for (const { field, isNullable, isImplicit } of shapesOf(message.desc)) {
    if (message.isSet(field) || isImplicit) json[field.name] = writeField(message, field, registry);
    else if (isNullable) json[field.name] = null;
  }
  return json;
}

function writeField(message: ReflectMessage, field: DescField, registry: Registry | undefined): JsonValue {
  // A field holds a Struct as plain JSON already, and reflection would lose a key "__proto__".
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

/** One value: a field's, or an item's of its list or map. */
function writeItem(field: DescField, value: unknown, registry: Registry | undefined): JsonValue {
  if (field.message !== undefined) return write(value as ReflectMessage, registry);
  if (field.enum === undefined) return writeScalar(field.scalar, value);
  if (field.enum.typeName === "google.protobuf.NullValue") return null;
  return field.enum.value[value as number]?.name ?? (value as number);
}

function writeScalar(type: ScalarType, value: unknown): JsonValue {
  if (typeof value === "bigint") {
    const number = Number(value);
    // Beyond 2^53 a number would be another one: the string says it right.
    return Number.isSafeInteger(number) ? number : String(value);
  }
  if (type === ScalarType.BYTES) return toBase64(value as Uint8Array);
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  return value as JsonValue;
}

/** The JSON of a message that is not an object of its fields. */
function writeForm(reflected: ReflectMessage, registry: Registry | undefined): JsonValue {
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

/** A type that is unknown here, or bytes that are no message of it, are no fault of the call. */
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

import type { DescEnum, DescField, DescMessage, Registry } from "@bufbuild/protobuf";
import { scalarZeroValue } from "@bufbuild/protobuf/reflect";
import { Edition, FeatureSet_FieldPresence, isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { isNullable } from "../fields.ts";
import { scalarWriter, writeString } from "./write-scalars.ts";
import { specialWriter } from "./write-special.ts";

/** The fields of a message by their local names: a message, or the input of `create`. */
export type Fields = Readonly<Record<string, unknown>>;

/** Returns the JSON text of a value. */
export type WriteJson = (value: unknown) => string;

/** Returns the JSON text of a field of a message. Undefined when the JSON has no such key. */
export type WriteField = (message: Fields) => string | undefined;

/**
 * Writes messages as JSON text. Names are as in the .proto, defaults are written, unset nullable fields are `null`, 64-bit
 * integers are numbers up to 2^53 and strings beyond, and durations are ISO 8601.
 */
export interface JsonWriters {
  messageWriter(desc: DescMessage): (message: Fields) => string;
  fieldWriter(field: DescField): WriteField;
  /** Writes the items of a list, separated by commas and without brackets. */
  itemsWriter(field: DescField & { readonly fieldKind: "list" }): (items: readonly unknown[]) => string;
}

/**
 * Creates writers. The writer of a type is prepared once, from its descriptor. Writing a message then only appends texts,
 * without a JSON value for each field.
 * @param registry the types that a google.protobuf.Any may contain; others are written as bytes
 */
export function createJsonWriters(registry: Registry | undefined): JsonWriters {
  const writers = new Map<DescMessage, WriteJson>();

  function messageWriter(desc: DescMessage): WriteJson {
    const known = writers.get(desc);
    if (known !== undefined) return known;
    const special = specialWriter(desc, registry, messageWriter);
    const members: Member[] = [];
    const write = special ?? ((message) => writeMembers(members, message as Fields));
    // Stored before its fields are prepared: a message type may contain itself.
    writers.set(desc, write);
    if (special === undefined) members.push(...inOrder(desc).map((field) => toMember(field, fieldWriter(field))));
    return write;
  }

  function fieldWriter(field: DescField): WriteField {
    const { localName: name, oneof } = field;
    const write = valueWriter(field);
    if (oneof !== undefined) {
      return (message) => {
        const chosen = message[oneof.localName] as { readonly case?: string; readonly value?: unknown } | undefined;
        return chosen?.case === name ? write(chosen.value) : undefined;
      };
    }
    const absent = textOfAbsent(field, write);
    const mayInherit = inheritsDefault(field);
    return (message) => {
      const value = mayInherit && !Object.hasOwn(message, name) ? undefined : message[name];
      return value === undefined || value === null ? absent : write(value);
    };
  }

  function valueWriter(field: DescField): WriteJson {
    if (field.fieldKind === "list") {
      const write = itemsWriter(field);
      return (items) => `[${write(items as unknown[])}]`;
    }
    if (field.fieldKind === "map") return mapWriter(itemWriter(field));
    // A field that is a wrapper holds the bare value.
    if (field.message !== undefined && field.oneof === undefined && isWrapperDesc(field.message)) {
      return scalarWriter(field.message.fields[0].scalar);
    }
    return itemWriter(field);
  }

  function itemsWriter(field: DescField & { readonly fieldKind: "list" }) {
    const write = itemWriter(field);
    return (items: readonly unknown[]) => {
      let text = "";
      for (const item of items) text += text === "" ? write(item) : `,${write(item)}`;
      return text;
    };
  }

  /** Writes one value: of a field, or of an item in its list or map. */
  function itemWriter({ message, enum: enumeration, scalar }: DescField): WriteJson {
    if (enumeration !== undefined) return enumWriter(enumeration);
    if (message === undefined) return scalarWriter(scalar);
    // In a field, a Struct is plain JSON already.
    return message.typeName === "google.protobuf.Struct" ? (json) => JSON.stringify(json) : messageWriter(message);
  }

  return { messageWriter, fieldWriter, itemsWriter };
}

/** A field of a message, with its key as it stands first in the object and after another one. */
interface Member {
  readonly firstKey: string;
  readonly nextKey: string;
  readonly write: WriteField;
}

function inOrder({ fields }: DescMessage): readonly DescField[] {
  return fields.toSorted((left, right) => left.number - right.number);
}

function toMember({ name }: DescField, write: WriteField): Member {
  return { firstKey: `{"${name}":`, nextKey: `,"${name}":`, write };
}

function writeMembers(members: readonly Member[], message: Fields): string {
  let text = "";
  for (const { firstKey, nextKey, write } of members) {
    const value = write(message);
    if (value !== undefined) text += (text === "" ? firstKey : nextKey) + value;
  }
  return text === "" ? "{}" : `${text}}`;
}

function mapWriter(write: WriteJson): WriteJson {
  return (map) => {
    let text = "";
    for (const [key, value] of Object.entries(map as object)) {
      text += `${text === "" ? "{" : ","}${writeString(key)}:${write(value)}`;
    }
    return text === "" ? "{}" : `${text}}`;
  };
}

function enumWriter(desc: DescEnum): WriteJson {
  if (desc.typeName === "google.protobuf.NullValue") return () => "null";
  const names = new Map(desc.values.map(({ number }) => [number, `"${desc.value[number]?.name ?? ""}"`]));
  return (value) => names.get(value as number) ?? String(value);
}

/** Returns the JSON text of a field that is not set. Undefined when the JSON has no such key. */
function textOfAbsent(field: DescField, write: WriteJson): string | undefined {
  if (isNullable(field)) return "null";
  if (field.presence !== FeatureSet_FieldPresence.IMPLICIT) return undefined;
  if (field.fieldKind === "list") return "[]";
  if (field.fieldKind === "map") return "{}";
  return write(field.scalar === undefined ? field.enum?.values[0]?.number : scalarZeroValue(field.scalar, false));
}

/** Whether a message without the field has its default on the prototype. */
function inheritsDefault({ parent, presence }: DescField): boolean {
  return parent.file.edition !== Edition.EDITION_PROTO3 && presence !== FeatureSet_FieldPresence.IMPLICIT;
}

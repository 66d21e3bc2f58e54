import { type DescField, type DescMessage, getOption } from "@bufbuild/protobuf";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { schema } from "#gen/gateway/v1/annotations_pb.js";

/** The way from a message to one of its fields, or to a field below it. */
export type FieldPath = readonly DescField[];

/** The path as the .proto spells it: `nested.text`. */
export function nameOf(path: FieldPath): string {
  return path.map(({ name }) => name).join(".");
}

const byName = new WeakMap<DescMessage, ReadonlyMap<string, DescField>>();

/** The fields of a message by both of their names: as the .proto spells it, and lowerCamelCase. */
export function fieldsByName(desc: DescMessage): ReadonlyMap<string, DescField> {
  let fields = byName.get(desc);
  if (fields === undefined) {
    fields = new Map(desc.fields.flatMap((field) => [[field.name, field] as const, [field.jsonName, field] as const]));
    byName.set(desc, fields);
  }
  return fields;
}

/** Whether the message is one of protobuf's own types: most have a JSON form of their own. */
export function isWellKnown({ typeName }: DescMessage): boolean {
  return typeName.startsWith("google.protobuf.");
}

/** Whether null may stand for an unset field: it is a wrapper, or an `optional` scalar that is declared nullable. */
export function isNullable(field: DescField): boolean {
  // Of a oneof only the member that is set is written: a null beside it would set another one.
  if (field.oneof !== undefined) return false;
  if (field.fieldKind === "message") return isWrapperDesc(field.message);
  return field.fieldKind === "scalar" && getOption(field, schema).nullable;
}

/** Whether null is a value of the field's type, rather than the sign of an absent one. */
export function acceptsNull({ message, enum: desc }: DescField): boolean {
  return message?.typeName === "google.protobuf.Value" || desc?.typeName === "google.protobuf.NullValue";
}

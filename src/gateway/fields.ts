import { type DescField, type DescMessage, getOption } from "@bufbuild/protobuf";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { schema } from "#gen/gateway/v1/annotations_pb.js";

/** The path from a message to one of its fields or to a nested field. */
export type FieldPath = readonly DescField[];

/** Returns the path as the .proto spells it: `nested.text`. */
export function nameOf(path: FieldPath): string {
  return path.map(({ name }) => name).join(".");
}

/** `CreateCompany` → `create_company`. */
export function snakeCase(name: string): string {
  return name.replaceAll(/(?<=[a-z0-9])(?=[A-Z])/g, "_").toLowerCase();
}

const byName = new WeakMap<DescMessage, ReadonlyMap<string, DescField>>();

/** Returns the fields of a message by both names: as the .proto spells it, and in lowerCamelCase. */
export function fieldsByName(desc: DescMessage): ReadonlyMap<string, DescField> {
  let fields = byName.get(desc);
  if (fields === undefined) {
    fields = new Map(desc.fields.flatMap((field) => [[field.name, field] as const, [field.jsonName, field] as const]));
    byName.set(desc, fields);
  }
  return fields;
}

/** Whether the message is a well-known type of protobuf. Most have a special JSON form. */
export function isWellKnown({ typeName }: DescMessage): boolean {
  return typeName.startsWith("google.protobuf.");
}

/** Whether null may represent the unset field: a wrapper, or an `optional` scalar that is declared nullable. */
export function isNullable(field: DescField): boolean {
  // Only the chosen member of a oneof is written: null would choose another member.
  if (field.oneof !== undefined) return false;
  if (field.fieldKind === "message") return isWrapperDesc(field.message);
  return field.fieldKind === "scalar" && getOption(field, schema).nullable;
}

/** Whether null is a value of the field's type instead of the sign of absence. */
export function acceptsNull({ message, enum: desc }: DescField): boolean {
  return message?.typeName === "google.protobuf.Value" || desc?.typeName === "google.protobuf.NullValue";
}

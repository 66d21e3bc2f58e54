import type { DescField, DescMessage } from "@bufbuild/protobuf";

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

/** Whether null is a value of the field's type, rather than the sign of an absent one. */
export function acceptsNull({ message, enum: desc }: DescField): boolean {
  return message?.typeName === "google.protobuf.Value" || desc?.typeName === "google.protobuf.NullValue";
}

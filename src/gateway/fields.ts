import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";

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

/** Whether the JSON of the message may have a form of its own, instead of an object with its fields. */
export function isWellKnown({ typeName }: DescMessage): boolean {
  return typeName.startsWith("google.protobuf.");
}

/** Whether a field holds 64-bit integers: alone, in a list or a map, or in a wrapper. */
export function isLong(field: DescField): boolean {
  const scalar = /^google\.protobuf\.U?Int64Value$/.test(field.message?.typeName ?? "")
    ? ScalarType.INT64
    : field.scalar;
  return scalar !== undefined && longs.has(scalar);
}

const longs: ReadonlySet<ScalarType> = new Set([
  ScalarType.INT64,
  ScalarType.UINT64,
  ScalarType.SINT64,
  ScalarType.FIXED64,
  ScalarType.SFIXED64,
]);

import type { DescMessage, Message } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import type { FieldMask } from "@bufbuild/protobuf/wkt";
import { invalid } from "./errors.ts";

/**
 * Returns the fields that a patch changes, as the .proto spells them: the paths of the mask, or every field that is set
 * when the mask is empty.
 * @throws INVALID_REQUEST when the mask names an unknown field
 */
export function changedFields(desc: DescMessage, patch: Message, mask: FieldMask | undefined): readonly string[] {
  const names = desc.fields.map(({ name }) => name);
  if (mask === undefined || mask.paths.length === 0) {
    const reflected = reflect(desc, patch);
    return desc.fields.filter((field) => reflected.isSet(field)).map(({ name }) => name);
  }
  const unknown = mask.paths.find((path) => !names.includes(path));
  if (unknown === undefined) return mask.paths;
  throw invalid({ field: "update_mask", message: `must name only these fields: ${names.join(", ")}: ${unknown}` });
}

/**
 * Returns the value of a changed field that cannot be null.
 * @throws INVALID_REQUEST when the value is undefined
 */
export function notNull<T>(field: string, value: T | undefined): T {
  if (value === undefined) throw invalid({ field, message: "must not be null" });
  return value;
}

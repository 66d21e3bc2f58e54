import type { DescMessage, Message } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import type { FieldMask } from "@bufbuild/protobuf/wkt";
import { invalid } from "./errors.ts";

/**
 * The fields that a patch changes, as the .proto spells them: those of its mask or, where it names none, those that are
 * set.
 * @throws INVALID_ARGUMENT for a name in the mask that is no field of the patch
 */
export function changedFields(desc: DescMessage, patch: Message, mask: FieldMask | undefined): readonly string[] {
  const names = desc.fields.map(({ name }) => name);
  if (mask === undefined || mask.paths.length === 0) {
    const reflected = reflect(desc, patch);
    return desc.fields.filter((field) => reflected.isSet(field)).map(({ name }) => name);
  }
  const unknown = mask.paths.find((path) => !names.includes(path));
  if (unknown === undefined) return mask.paths;
  throw invalid({ field: "update_mask", message: `must name fields out of ${names.join(", ")}: ${unknown}` });
}

/**
 * The value of a changed field that cannot be null.
 * @throws INVALID_ARGUMENT where the mask names it and it has none
 */
export function notNull<T>(field: string, value: T | undefined): T {
  if (value === undefined) throw invalid({ field, message: "must not be null" });
  return value;
}

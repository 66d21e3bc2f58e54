import { type DescField, fromJson, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { badField } from "./errors.ts";
import { checkJson } from "./json/check.ts";
import { isUnicode } from "./json/scalars.ts";

/** Whether the field, or an item of its list, can be set from text. Only some well-known message types can. */
export function isText(field: DescField): boolean {
  if (field.fieldKind === "map") return false;
  if (field.message === undefined) return true;
  return (
    isWrapperDesc(field.message) || /^google\.protobuf\.(Timestamp|Duration|FieldMask)$/.test(field.message.typeName)
  );
}

/**
 * Sets a field from text, or a list from the texts of its items.
 * @throws INVALID_ARGUMENT that names the field, when the text is not a value of its type
 */
export function setText(parent: ReflectMessage, field: DescField, texts: readonly string[], name: string): void {
  const [text = ""] = texts;
  const plain = plainValueOf(field, text);
  if (plain !== undefined) return parent.set(field, plain);
  const json = field.fieldKind === "list" ? texts.map((item) => jsonOf(field, item)) : jsonOf(field, text);
  const options = { registry: undefined, setElsewhere: undefined, rounded: undefined };
  const checked = checkJson(parent.desc, { [field.name]: json }, options);
  const [violation] = checked.violations;
  if (violation !== undefined) throw badField(name, violation.description);
  parent.set(field, reflect(parent.desc, fromJson(parent.desc, checked.json)).get(field));
}

/** Returns the value of the texts that most requests have: a string, or a short integer. Undefined for all others. */
function plainValueOf(field: DescField, text: string): string | number | undefined {
  if (field.fieldKind !== "scalar") return undefined;
  if (field.scalar === ScalarType.STRING) return isUnicode(text) ? text : undefined;
  const isInteger = field.scalar === ScalarType.INT32 || field.scalar === ScalarType.UINT32;
  return isInteger && /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

/** Converts text to JSON. Numbers, bytes and times stay strings: the check accepts them. */
function jsonOf(field: DescField, text: string): JsonValue {
  // An enum value may be given by its number.
  if (field.enum !== undefined) return /^-?\d{1,10}$/.test(text) ? Number(text) : text;
  // An unescaped plus sign was decoded to a space, which never stands before the offset of a time.
  if (field.message?.typeName === "google.protobuf.Timestamp") return text.replace(/ (?=\d\d:\d\d$)/, "+");
  if (scalarOf(field) === ScalarType.BOOL && (text === "true" || text === "false")) return text === "true";
  return text;
}

/** Returns the scalar type of a field or of the value in a wrapper. */
function scalarOf(field: DescField): ScalarType | undefined {
  if (field.message === undefined) return field.scalar;
  return isWrapperDesc(field.message) ? field.message.fields[0]?.scalar : undefined;
}

import { type DescField, fromJson, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { badField } from "./errors.ts";
import { checkJson } from "./json/check.ts";

/** Whether a text can be the value of the field, or an item of its list: no message can, but for a few of protobuf. */
export function isText(field: DescField): boolean {
  if (field.fieldKind === "map") return false;
  if (field.message === undefined) return true;
  return (
    isWrapperDesc(field.message) || /^google\.protobuf\.(Timestamp|Duration|FieldMask)$/.test(field.message.typeName)
  );
}

/**
 * Sets a field from a text, or a list from its items.
 * @throws INVALID_ARGUMENT that names the field, for a text that its type does not read
 */
export function setText(parent: ReflectMessage, field: DescField, texts: readonly string[], name: string): void {
  const [text = ""] = texts;
  const json = field.fieldKind === "list" ? texts.map((item) => jsonOf(field, item)) : jsonOf(field, text);
  const options = { registry: undefined, elsewhere: undefined, rounded: undefined };
  const checked = checkJson(parent.desc, { [field.name]: json }, options);
  const [violation] = checked.violations;
  if (violation !== undefined) throw badField(name, violation.description);
  parent.set(field, reflect(parent.desc, fromJson(parent.desc, checked.json)).get(field));
}

/** The JSON that a text stands for: the check reads numbers, bytes and times from strings. */
function jsonOf(field: DescField, text: string): JsonValue {
  // An enum by its number.
  if (field.enum !== undefined) return /^-?\d{1,10}$/.test(text) ? Number(text) : text;
  // A plus that was not escaped has become a space: no time has one before its offset.
  if (field.message?.typeName === "google.protobuf.Timestamp") return text.replace(/ (?=\d\d:\d\d$)/, "+");
  if (scalarOf(field) === ScalarType.BOOL && (text === "true" || text === "false")) return text === "true";
  return text;
}

/** The type of the text: a wrapper's is that of what it wraps. */
function scalarOf(field: DescField): ScalarType | undefined {
  if (field.message === undefined) return field.scalar;
  return isWrapperDesc(field.message) ? field.message.fields[0]?.scalar : undefined;
}

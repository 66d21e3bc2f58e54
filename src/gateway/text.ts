import { type DescField, fromJson, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { badField, reasonOf } from "./errors.ts";
import { isWrapper } from "./json/write.ts";

/** Whether a text can be the value of the field, or an item of its list: no message can, but for a few of protobuf. */
export function isText(field: DescField): boolean {
  if (field.fieldKind === "map") return false;
  if (field.message === undefined) return true;
  return isWrapper(field.message) || /^google\.protobuf\.(Timestamp|Duration|FieldMask)$/.test(field.message.typeName);
}

/**
 * Sets a field from a text, or a list from its items.
 * @throws INVALID_ARGUMENT that names the field, for a text that its type does not read
 */
export function setText(parent: ReflectMessage, field: DescField, texts: readonly string[], name: string): void {
  const [text = ""] = texts;
  if (field.fieldKind === "scalar" && field.scalar === ScalarType.STRING) {
    parent.set(field, text);
    return;
  }
  const json = field.fieldKind === "list" ? texts.map((item) => jsonOf(field, item, name)) : jsonOf(field, text, name);
  try {
    parent.set(field, reflect(parent.desc, fromJson(parent.desc, { [field.name]: json })).get(field));
  } catch (error) {
    throw badField(name, reasonOf(field, error));
  }
}

/** A text as the JSON that the field's type reads, more strictly than that does. */
function jsonOf(field: DescField, text: string, name: string): JsonValue {
  // An enum by its number.
  if (field.enum !== undefined) return /^-?\d+$/.test(text) ? Number(text) : text;
  switch (scalarOf(field)) {
    case undefined:
      // A plus that was not escaped has become a space: no time has one before its offset.
      return field.message?.typeName === "google.protobuf.Timestamp" ? text.replace(/ (?=\d\d:\d\d$)/, "+") : text;
    case ScalarType.STRING:
      return text;
    case ScalarType.BYTES:
      // A plus that was not escaped has become a space, which base64 would pass over.
      return expectForm(/^[\w+/-]*={0,2}$/, "must be base64");
    case ScalarType.BOOL:
      return expectForm(/^(true|false)$/, "must be true or false") === "true";
    // Number("") is 0, and Number(" 1 ") and Number("0x10") are numbers too.
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return expectForm(/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/, "must be a number");
    default:
      return expectForm(/^-?\d+$/, "must be a whole number");
  }

  function expectForm(form: RegExp, rule: string): string {
    if (!form.test(text)) throw badField(name, rule);
    return text;
  }
}

/** The type of the text: a wrapper's is that of what it wraps. */
function scalarOf(field: DescField): ScalarType | undefined {
  if (field.message === undefined) return field.scalar;
  return isWrapper(field.message) ? field.message.fields[0]?.scalar : undefined;
}

import type { JsonValue } from "@bufbuild/protobuf";
import type { ListValue, Struct, Value } from "@bufbuild/protobuf/wkt";
import { hideKey, isObject, setOwn } from "./objects.ts";
import { isUnicode } from "./scalars.ts";
import { addViolation, type JsonPath, type JsonViolations } from "./violations.ts";

/** Checks the JSON of a google.protobuf.Value: any JSON with finite numbers and valid Unicode. */
export function checkValue(found: JsonViolations, json: JsonValue, path: JsonPath): void {
  if (typeof json === "string" && !isUnicode(json)) addViolation(found, path, "must be valid Unicode");
  if (typeof json === "number" && !Number.isFinite(json)) addViolation(found, path, "must be a finite number");
  if (Array.isArray(json)) json.forEach((item, at) => checkValue(found, item, { above: path, at }));
  if (!isObject(json)) return;
  for (const [key, item] of Object.entries(json)) {
    if (!isUnicode(key)) addViolation(found, path, "must have keys in valid Unicode");
    checkValue(found, item, { above: path, at: key });
  }
  if (hideKey(json)) found.hasHiddenKey = true;
}

/** Returns the JSON of a google.protobuf.Value. @throws Error for a Value without a kind, and for NaN and infinity */
export function writeValue({ kind }: Value): JsonValue {
  switch (kind.case) {
    case "nullValue":
      return null;
    case "structValue":
      return writeStruct(kind.value);
    case "listValue":
      return writeListValue(kind.value);
    case "numberValue":
      if (!Number.isFinite(kind.value)) throw new Error("a google.protobuf.Value must not be NaN or infinite");
      return kind.value;
    case undefined:
      throw new Error("a google.protobuf.Value must have a kind");
    default:
      return kind.value;
  }
}

/** Converts a Struct to JSON. */
export function writeStruct({ fields }: Struct): JsonValue {
  const json = {};
  for (const [key, value] of Object.entries(fields)) setOwn(json, key, writeValue(value));
  return json;
}

/** Converts a ListValue to JSON. */
export function writeListValue({ values }: ListValue): JsonValue {
  return values.map((value) => writeValue(value));
}

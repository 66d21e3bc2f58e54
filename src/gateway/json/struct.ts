import type { JsonValue } from "@bufbuild/protobuf";
import type { ListValue, Struct, Value } from "@bufbuild/protobuf/wkt";
import { addViolation, type JsonPath, type JsonViolations } from "./findings.ts";
import { hideKey, isObject, setOwn } from "./objects.ts";
import { isUnicode } from "./scalars.ts";

/** Checks the JSON of a google.protobuf.Value: every JSON with finite numbers and valid Unicode. */
export function checkValue(findings: JsonViolations, json: JsonValue, place: JsonPath): void {
  if (typeof json === "string" && !isUnicode(json)) addViolation(findings, place, "must be valid Unicode");
  if (typeof json === "number" && !Number.isFinite(json)) addViolation(findings, place, "must be a finite number");
  if (Array.isArray(json)) json.forEach((item, at) => checkValue(findings, item, { above: place, at }));
  if (!isObject(json)) return;
  for (const [key, item] of Object.entries(json)) {
    if (!isUnicode(key)) addViolation(findings, place, "must have keys of valid Unicode");
    checkValue(findings, item, { above: place, at: key });
  }
  if (hideKey(json)) findings.hasHiddenKey = true;
}

/** The JSON of a google.protobuf.Value. @throws Error for a value that has none: no kind, or a number like NaN */
export function writeValue({ kind }: Value): JsonValue {
  switch (kind.case) {
    case "nullValue":
      return null;
    case "structValue":
      return writeStruct(kind.value);
    case "listValue":
      return writeListValue(kind.value);
    case "numberValue":
      if (!Number.isFinite(kind.value)) throw new Error("a google.protobuf.Value cannot be NaN or infinite");
      return kind.value;
    case undefined:
      throw new Error("a google.protobuf.Value must have a kind");
    default:
      return kind.value;
  }
}

export function writeStruct({ fields }: Struct): JsonValue {
  const json = {};
  for (const [key, value] of Object.entries(fields)) setOwn(json, key, writeValue(value));
  return json;
}

export function writeListValue({ values }: ListValue): JsonValue {
  return values.map((value) => writeValue(value));
}

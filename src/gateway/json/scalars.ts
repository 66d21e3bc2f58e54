import { type DescField, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { isDecimal, parseInteger, parseNumber } from "./numbers.ts";

/**
 * Returns the JSON of a scalar in a form that protobuf-es reads exactly. Undefined when it is not a value of the type.
 * protobuf-es by itself accepts "0x10", " 1" and "A==", and refuses "1e2" for 64-bit integers.
 */
export function normalizeScalar(type: ScalarType, json: JsonValue): JsonValue | undefined {
  switch (type) {
    case ScalarType.STRING:
      return typeof json === "string" && isUnicode(json) ? json : undefined;
    case ScalarType.BOOL:
      return typeof json === "boolean" ? json : undefined;
    case ScalarType.BYTES:
      return typeof json === "string" && isBase64(json) ? json : undefined;
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return normalizeFloat(type, json);
    default:
      return normalizeInteger(type, json);
  }
}

type MapKeyType = Extract<DescField, { fieldKind: "map" }>["mapKey"];

/** Returns a map key in a form that protobuf-es reads exactly; undefined when it is not a key of the type. */
export function normalizeKey(type: MapKeyType, key: string): string | undefined {
  if (type === ScalarType.STRING) return isUnicode(key) ? key : undefined;
  if (type === ScalarType.BOOL) return key === "true" || key === "false" ? key : undefined;
  const integer = isDecimal(key) ? normalizeInteger(type, key) : undefined;
  return integer === undefined ? undefined : String(integer);
}

/** Returns the rule that a map key breaks. */
export function ruleOfKey(type: MapKeyType): string {
  return type === ScalarType.STRING ? "must be valid Unicode" : ruleOfScalar(type, "");
}

/** Returns the rule that the JSON of a scalar breaks. */
export function ruleOfScalar(type: ScalarType, json: JsonValue): string {
  switch (type) {
    case ScalarType.STRING:
      return typeof json === "string" ? "must be valid Unicode" : "must be a string";
    case ScalarType.BOOL:
      return "must be true or false";
    case ScalarType.BYTES:
      return "must be base64";
    case ScalarType.DOUBLE:
      return 'must be a number, "NaN", "Infinity" or "-Infinity"';
    case ScalarType.FLOAT:
      return 'must be a number of single precision, "NaN", "Infinity" or "-Infinity"';
    default: {
      const { min, max } = ranges[type];
      if (typeof json === "number" && Number.isInteger(json) && !Number.isSafeInteger(json)) {
        return "must be a string when it is beyond 2^53";
      }
      return `must be an integer from ${min} to ${max}`;
    }
  }
}

/** Whether a scalar type is one of the integer types. */
export function isInteger(type: ScalarType): type is IntegerType {
  return Object.hasOwn(ranges, type);
}

/** Whether a text has no lone surrogates, which UTF-8 cannot represent. */
export function isUnicode(text: string): boolean {
  // Most texts have no surrogates. The search for lone ones takes four times as long.
  return !/[\ud800-\udfff]/.test(text) || !/\p{Surrogate}/u.test(text);
}

/** Whether a text is base64 or base64url, with full padding or none (RFC 4648). */
function isBase64(text: string): boolean {
  if (!/^[\w+/-]*={0,2}$/.test(text)) return false;
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  return padding > 0 ? text.length % 4 === 0 && (text.length - padding) % 4 !== 1 : text.length % 4 !== 1;
}

function normalizeFloat(type: ScalarType, json: JsonValue): JsonValue | undefined {
  if (json === "NaN" || json === "Infinity" || json === "-Infinity") return json;
  const number = typeof json === "string" ? parseNumber(json) : json;
  if (typeof number !== "number" || !Number.isFinite(number)) return undefined;
  if (type === ScalarType.DOUBLE || Math.abs(number) <= largestFloat) return number;
  // Other languages print the largest float as 3.4028235e+38, which is slightly larger: it is rounded to a float.
  const nearest = Math.fround(number);
  return Number.isFinite(nearest) ? nearest : undefined;
}

const largestFloat = 3.4028234663852886e38;

function normalizeInteger(type: IntegerType, json: JsonValue): JsonValue | undefined {
  const { min, max, isLong } = ranges[type];
  // JSON.parse rounds numbers beyond 2^53.
  if (typeof json === "number") {
    const isInRange = isLong ? json >= 0 || min < 0n : json >= Number(min) && json <= Number(max);
    return Number.isSafeInteger(json) && isInRange ? json : undefined;
  }
  const integer = typeof json === "string" ? parseInteger(json) : undefined;
  if (integer === undefined || integer < min || integer > max) return undefined;
  return isLong ? String(integer) : Number(integer);
}

type IntegerType = Exclude<
  ScalarType,
  ScalarType.STRING | ScalarType.BOOL | ScalarType.BYTES | ScalarType.DOUBLE | ScalarType.FLOAT
>;

const signed32 = { min: -0x8000_0000n, max: 0x7fff_ffffn, isLong: false };
const unsigned32 = { min: 0n, max: 0xffff_ffffn, isLong: false };
const signed64 = { min: -0x8000_0000_0000_0000n, max: 0x7fff_ffff_ffff_ffffn, isLong: true };
const unsigned64 = { min: 0n, max: 0xffff_ffff_ffff_ffffn, isLong: true };

const ranges: Readonly<Record<IntegerType, { readonly min: bigint; readonly max: bigint; readonly isLong: boolean }>> =
  {
    [ScalarType.INT32]: signed32,
    [ScalarType.SINT32]: signed32,
    [ScalarType.SFIXED32]: signed32,
    [ScalarType.UINT32]: unsigned32,
    [ScalarType.FIXED32]: unsigned32,
    [ScalarType.INT64]: signed64,
    [ScalarType.SINT64]: signed64,
    [ScalarType.SFIXED64]: signed64,
    [ScalarType.UINT64]: unsigned64,
    [ScalarType.FIXED64]: unsigned64,
  };

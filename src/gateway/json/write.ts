import { type DescField, type DescMessage, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import { isLong, isWellKnown } from "../fields.ts";

const spelling = { useProtoFieldName: true, alwaysEmitImplicit: true } as const;

/**
 * The JSON of a message: names as in the .proto, defaults written out, `null` for an unset wrapper (a wrapper is how a
 * .proto says that a value may be null), and 64-bit integers as numbers, which is exact within 2^53.
 */
export function writeMessage(desc: DescMessage, message: Message): JsonValue {
  const json = toJson(desc, message, spelling);
  return complete(desc, json);
}

/** What protobuf's own JSON leaves to do in a message; prepared once, since most messages need nothing. */
interface Plan {
  readonly fields: readonly DescField[];
  readonly nullable: ReadonlySet<DescField>;
  readonly long: readonly DescField[];
  readonly nested: readonly DescField[];
}

const plans = new WeakMap<DescMessage, Plan>();

function complete(desc: DescMessage, json: JsonValue): JsonValue {
  if (!isObject(json)) return json;
  const { fields, nullable, long, nested } = planOf(desc);
  for (const { name } of long) {
    const value = json[name];
    if (value !== undefined) json[name] = toNumbers(value);
  }
  for (const { name, message, fieldKind } of nested) {
    const value = json[name];
    if (message === undefined || typeof value !== "object" || value === null) continue;
    if (fieldKind === "message") json[name] = complete(message, value);
    else if (Array.isArray(value)) json[name] = value.map((item) => complete(message, item));
    else for (const [key, item] of Object.entries(value)) value[key] = complete(message, item);
  }
  if (nullable.size === 0) return json;
  // Written anew, so that a null stands where its value would.
  const whole: { [name: string]: JsonValue } = {};
  for (const field of fields) {
    const value = json[field.name] ?? (nullable.has(field) ? null : undefined);
    if (value !== undefined) whole[field.name] = value;
  }
  return whole;
}

function planOf(desc: DescMessage): Plan {
  let plan = plans.get(desc);
  if (plan === undefined) {
    plan = {
      fields: desc.fields.toSorted((one, other) => one.number - other.number),
      nullable: new Set(desc.fields.filter((field) => isNullable(field))),
      long: desc.fields.filter((field) => isLong(field)),
      nested: desc.fields.filter(({ message }) => message !== undefined && !isWellKnown(message)),
    };
    plans.set(desc, plan);
  }
  return plan;
}

function isObject(json: JsonValue): json is { [name: string]: JsonValue } {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

/** A value, or what a list or a map holds. */
function toNumbers(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map((item) => toNumber(item));
  if (!isObject(value)) return toNumber(value);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toNumber(item)]));
}

function toNumber(value: JsonValue): JsonValue {
  const number = Number(value);
  // Beyond 2^53 a number would be another one: the string says it right.
  return value !== null && Number.isSafeInteger(number) ? number : value;
}

function isNullable(field: DescField): boolean {
  // Of a oneof only the member that is set is written: a null beside it would set another one.
  return field.fieldKind === "message" && field.oneof === undefined && isWrapper(field.message);
}

/** google.protobuf.StringValue and its like. */
export function isWrapper({ typeName }: DescMessage): boolean {
  return /^google\.protobuf\.(Double|Float|Int64|UInt64|Int32|UInt32|Bool|String|Bytes)Value$/.test(typeName);
}

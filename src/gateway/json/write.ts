import { type DescField, type DescMessage, type JsonValue, type Message, ScalarType, toJson } from "@bufbuild/protobuf";

const spelling = { useProtoFieldName: true, alwaysEmitImplicit: true } as const;

/**
 * The JSON of a message: names as in the .proto, defaults written out, `null` for an unset wrapper (a wrapper is how a
 * .proto says that a value may be null), and 64-bit integers as numbers, which is exact within 2^53.
 */
export function writeMessage(desc: DescMessage, message: Message): JsonValue {
  const json = toJson(desc, message, spelling);
  return complete(desc, json);
}

/** What protobuf's own JSON leaves to add in a message; precomputed, since most messages need nothing. */
interface Additions {
  readonly nullable: readonly DescField[];
  readonly long: readonly DescField[];
  readonly nested: readonly DescField[];
}

const plans = new Map<DescMessage, Additions>();

function complete(desc: DescMessage, json: JsonValue): JsonValue {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return json;
  const { nullable, long, nested } = planOf(desc);
  for (const { name } of nullable) json[name] ??= null;
  for (const { name } of long) {
    const value = json[name];
    if (value !== undefined) json[name] = Array.isArray(value) ? value.map((item) => toNumber(item)) : toNumber(value);
  }
  for (const field of nested) completeField(field, json[field.name]);
  return json;
}

function completeField(field: DescField, value: JsonValue | undefined): void {
  if (field.message === undefined || typeof value !== "object" || value === null) return;
  if (field.fieldKind === "message") complete(field.message, value);
  else for (const item of Object.values(value)) complete(field.message, item as JsonValue);
}

function planOf(desc: DescMessage): Additions {
  let plan = plans.get(desc);
  if (plan === undefined) {
    plan = {
      nullable: desc.fields.filter((field) => field.fieldKind === "message" && isWrapper(field.message)),
      long: desc.fields.filter((field) => "scalar" in field && field.scalar !== undefined && isLong(field.scalar)),
      nested: desc.fields.filter(
        ({ message }) => message !== undefined && !message.typeName.startsWith("google.protobuf."),
      ),
    };
    plans.set(desc, plan);
  }
  return plan;
}

function toNumber(value: JsonValue): JsonValue {
  const number = Number(value);
  // Beyond 2^53 a number would be another one: the string says it right.
  return Number.isSafeInteger(number) ? number : value;
}

function isLong(scalar: ScalarType): boolean {
  const long = [ScalarType.INT64, ScalarType.UINT64, ScalarType.SINT64, ScalarType.FIXED64, ScalarType.SFIXED64];
  return long.includes(scalar);
}

/** google.protobuf.StringValue and its like. */
export function isWrapper({ typeName }: DescMessage): boolean {
  return /^google\.protobuf\.(Double|Float|Int64|UInt64|Int32|UInt32|Bool|String|Bytes)Value$/.test(typeName);
}

import { create, type DescEnum, type DescField, type DescMessage, getOption, ScalarType } from "@bufbuild/protobuf";
import { scalarZeroValue } from "@bufbuild/protobuf/reflect";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import {
  EnumRulesSchema,
  type FieldRules,
  FieldRulesSchema,
  field as rulesOption,
  type StringRules,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { FieldBehavior, field_behavior } from "#gen/google/api/field_behavior_pb.js";
import { defaultOf as declaredDefaultOf } from "../defaults.ts";
import { isNullable, isWellKnown } from "../fields.ts";

/** A JSON Schema (draft 2020-12), as OpenAPI 3.1 uses it. */
export type Schema = { [keyword: string]: unknown };

export const noRules = create(FieldRulesSchema);

/** Whether a request body must have the field. */
export function isRequired(field: DescField): boolean {
  return getOption(field, field_behavior).includes(FieldBehavior.REQUIRED);
}

/**
 * Whether every response has the field, as its zero value, an empty list, null or its declared default. A field that is
 * marked OPTIONAL is absent when it is empty.
 */
export function isAlwaysWritten(field: DescField): boolean {
  if (getOption(field, field_behavior).includes(FieldBehavior.OPTIONAL)) return false;
  if (isNullable(field) || declaredDefaultOf(field) !== undefined) return true;
  if (field.fieldKind === "message") return false;
  return (
    field.fieldKind === "list" || field.fieldKind === "map" || field.presence === FeatureSet_FieldPresence.IMPLICIT
  );
}

/** Whether responses always have a field of the message, or of a nested one, that requests may leave out. */
export function requiresMoreInResponses(message: DescMessage, above: readonly DescMessage[]): boolean {
  if (above.includes(message)) return false;
  const around = [...above, message];
  return message.fields.some(
    (field) =>
      (!isRequired(field) && isAlwaysWritten(field)) ||
      (field.message !== undefined && !isWellKnown(field.message) && requiresMoreInResponses(field.message, around)),
  );
}

/** Returns the schema of a scalar with its buf.validate rules. */
export function scalar(type: ScalarType, { type: rules }: FieldRules): Schema {
  switch (type) {
    case ScalarType.STRING:
      return { type: "string", ...(rules.case === "string" && ofString(rules.value)) };
    case ScalarType.BOOL:
      return { type: "boolean" };
    case ScalarType.BYTES:
      return { type: "string", contentEncoding: "base64" };
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return { type: "number", ...(isNumeric(rules) && range(rules.value)) };
    case ScalarType.UINT32:
      return { type: "integer", minimum: 0, ...(isNumeric(rules) && range(rules.value)) };
    case ScalarType.INT32:
      return { type: "integer", format: "int32", ...(isNumeric(rules) && range(rules.value)) };
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      // Values beyond 2^53 are strings.
      return {
        type: ["integer", "string"],
        minimum: 0,
        pattern: "^[0-9]+$",
        ...(isNumeric(rules) && range(rules.value)),
      };
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return { type: ["integer", "string"], pattern: "^-?[0-9]+$", ...(isNumeric(rules) && range(rules.value)) };
    default:
      return { type: "integer", ...(isNumeric(rules) && range(rules.value)) };
  }
}

/** Lists the names of the values that an enum field may have. */
export function namesOf(desc: DescEnum, { type: rules }: FieldRules): string[] {
  const { in: only, notIn } = rules.case === "enum" ? rules.value : create(EnumRulesSchema);
  return desc.values
    .filter(({ number }) => !notIn.includes(number) && (only.length === 0 || only.includes(number)))
    .map(({ name }) => name);
}

/** Returns the default of a field: the declared one, or the zero value of a field without presence. */
export function schemaDefaultOf(field: DescField): Schema {
  // isNullable excludes members of a oneof.
  if (field.fieldKind === "message") return isNullable(field) ? { default: null } : {};
  const declared = declaredDefaultOf(field);
  if (declared !== undefined) return { default: declared };
  const implicit = field.presence === FeatureSet_FieldPresence.IMPLICIT && !isRequired(field);
  if (field.fieldKind === "enum") {
    const name = (implicit ? field.enum.values[0]?.name : undefined) ?? "";
    return namesOf(field.enum, getOption(field, rulesOption)).includes(name) ? { default: name } : {};
  }
  if (field.fieldKind !== "scalar") return {};
  const zero = implicit ? zeroOf(field.scalar) : undefined;
  if (zero === undefined || zero instanceof Uint8Array) return {};
  return { default: typeof zero === "bigint" ? Number(zero) : zero };
}

/** Returns the zero value; undefined for strings and bytes, where absence usually does not mean empty. */
function zeroOf(type: ScalarType): ReturnType<typeof scalarZeroValue> | undefined {
  return type === ScalarType.STRING || type === ScalarType.BYTES ? undefined : scalarZeroValue(type, false);
}

function ofString(rules: StringRules): Schema {
  const { wellKnown } = rules;
  return {
    ...(rules.minLen > 0n && { minLength: Number(rules.minLen) }),
    ...(rules.maxLen > 0n && { maxLength: Number(rules.maxLen) }),
    ...(rules.pattern !== "" && { pattern: rules.pattern }),
    ...(rules.in.length > 0 && { enum: rules.in }),
    ...((wellKnown.case === "email" || wellKnown.case === "uuid") && wellKnown.value && { format: wellKnown.case }),
  };
}

type Rules = FieldRules["type"];
type NumericCase = "int32" | "uint32" | "int64" | "uint64" | "double" | "float";

function isNumeric(rules: Rules): rules is Extract<Rules, { case: NumericCase }> {
  return ["int32", "uint32", "int64", "uint64", "double", "float"].includes(rules.case ?? "");
}

function range({ greaterThan, lessThan }: Extract<Rules, { case: NumericCase }>["value"]): Schema {
  return {
    ...(greaterThan.case === "gte" && { minimum: Number(greaterThan.value) }),
    ...(greaterThan.case === "gt" && { exclusiveMinimum: Number(greaterThan.value) }),
    ...(lessThan.case === "lte" && { maximum: Number(lessThan.value) }),
    ...(lessThan.case === "lt" && { exclusiveMaximum: Number(lessThan.value) }),
  };
}

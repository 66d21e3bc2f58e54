import { create, type DescEnum, type DescField, getOption, ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import {
  type FieldRules,
  FieldRulesSchema,
  field as rulesOption,
  type StringRules,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { FieldBehavior, field_behavior } from "#gen/google/api/field_behavior_pb.js";
import { isWrapper } from "../json/write.ts";
import type { Schema } from "./schema.ts";

export const noRules = create(FieldRulesSchema);

/** Whether a body must have the field. */
export function isRequired(field: DescField): boolean {
  return getOption(field, field_behavior).includes(FieldBehavior.REQUIRED);
}

/** The type of a scalar and what its buf.validate rules allow. */
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
    case ScalarType.UINT64:
      return { type: "integer", minimum: 0, ...(isNumeric(rules) && range(rules.value)) };
    case ScalarType.INT32:
      return { type: "integer", format: "int32", ...(isNumeric(rules) && range(rules.value)) };
    default:
      return { type: "integer", ...(isNumeric(rules) && range(rules.value)) };
  }
}

/** The values that an enum field may have, by name. */
export function namesOf(desc: DescEnum, { type: rules }: FieldRules): string[] {
  const refused = rules.case === "enum" ? rules.value.notIn : [];
  return desc.values.filter(({ number }) => !refused.includes(number)).map(({ name }) => name);
}

/** What an absent field counts as: the declared default, or the zero of a field that has no other absence. */
export function defaultOf(field: DescField): Schema {
  if (field.fieldKind === "message" && isWrapper(field.message)) return { default: null };
  if (field.fieldKind !== "scalar" && field.fieldKind !== "enum") return {};
  const declared = field.getDefaultValue();
  const implicit = field.presence === FeatureSet_FieldPresence.IMPLICIT && !isRequired(field);
  if (field.fieldKind === "enum") {
    const [zero] = namesOf(field.enum, getOption(field, rulesOption));
    return implicit && zero === field.enum.value[0]?.name ? { default: zero } : {};
  }
  if (declared !== undefined) return { default: declared };
  if (!implicit || field.scalar === ScalarType.STRING || field.scalar === ScalarType.BYTES) return {};
  return { default: field.scalar === ScalarType.BOOL ? false : 0 };
}

function ofString(rules: StringRules): Schema {
  const format = rules.wellKnown.case;
  return {
    ...(rules.minLen > 0n && { minLength: Number(rules.minLen) }),
    ...(rules.maxLen > 0n && { maxLength: Number(rules.maxLen) }),
    ...(rules.pattern !== "" && { pattern: rules.pattern }),
    ...((format === "email" || format === "uuid") && { format }),
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

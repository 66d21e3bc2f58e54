import { type AnyDesc, type DescField, type DescMessage, getOption, ScalarType } from "@bufbuild/protobuf";
import { type FieldRules, field as rulesOption } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { example as messageExample, schema as schemaOption } from "#gen/gateway/v1/annotations_pb.js";
import { isWrapper } from "../json/write.ts";
import { snakeCase } from "./names.ts";
import { defaultOf, isRequired, namesOf, noRules, scalar } from "./rules.ts";

/** A JSON Schema of draft 2020-12, as OpenAPI 3.1 has it. */
export type Schema = { [keyword: string]: unknown };

export interface Schemas {
  /** A reference to the message's schema, which is then among the components. */
  reference(message: DescMessage): Schema;
  /** The schema of a message without some of its fields. */
  without(message: DescMessage, left: ReadonlySet<DescField>): Schema;
  field(field: DescField): Schema;
  /** All that were referred to, by name. */
  readonly components: Record<string, Schema>;
}

/** @param describe what the .proto says above a declaration */
export function createSchemas(describe: (desc: AnyDesc) => string): Schemas {
  const components: Record<string, Schema> = {};
  return { components, reference, without: (message, left) => object(message, left), field };

  function reference(message: DescMessage): Schema {
    const name = snakeCase(message.name);
    if (components[name] === undefined) {
      components[name] = {};
      components[name] = object(message, new Set());
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  function object(message: DescMessage, left: ReadonlySet<DescField>): Schema {
    const fields = message.fields.filter((one) => !left.has(one));
    const required = fields.filter((one) => isRequired(one)).map(({ name }) => name);
    const example = getOption(message, messageExample);
    return {
      type: "object",
      ...described(message),
      ...(required.length > 0 && { required }),
      properties: Object.fromEntries(fields.map((one) => [one.name, field(one)])),
      ...(example !== "" && { example: JSON.parse(example) as unknown }),
    };
  }

  function field(desc: DescField): Schema {
    const rules = getOption(desc, rulesOption);
    const { format, uniqueItems, example } = getOption(desc, schemaOption);
    return {
      ...described(desc),
      ...(desc.fieldKind === "list" ? list(desc, rules) : single(desc, rules)),
      ...(format !== "" && { format }),
      ...(uniqueItems && { uniqueItems }),
      ...defaultOf(desc),
      ...(desc.deprecated && { deprecated: true }),
      ...(example !== "" && { examples: [example] }),
    };
  }

  function list(desc: DescField & { fieldKind: "list" }, rules: FieldRules): Schema {
    if (rules.type.case !== "repeated") return { type: "array", items: single(desc, rules) };
    const { minItems, maxItems, unique, items } = rules.type.value;
    return {
      type: "array",
      items: single(desc, items ?? noRules),
      ...(minItems > 0n && { minItems: Number(minItems) }),
      ...(maxItems > 0n && { maxItems: Number(maxItems) }),
      ...(unique && { uniqueItems: true }),
    };
  }

  function single(desc: DescField, rules: FieldRules): Schema {
    if (desc.enum !== undefined) return { type: "string", enum: namesOf(desc.enum, rules) };
    if (desc.message !== undefined) return message(desc.message, rules);
    return scalar(desc.scalar ?? ScalarType.STRING, rules);
  }

  function message(desc: DescMessage, rules: FieldRules): Schema {
    const [value] = desc.fields;
    if (isWrapper(desc) && value?.scalar !== undefined) {
      const { type, ...rest } = scalar(value.scalar, rules);
      return { type: [type, "null"], ...rest };
    }
    if (desc.typeName === "google.protobuf.Timestamp") return { type: "string", format: "date-time" };
    if (desc.typeName === "google.protobuf.Duration") return { type: "string" };
    return reference(desc);
  }

  function described(desc: AnyDesc): Schema {
    const description = describe(desc);
    return description === "" ? {} : { description };
  }
}

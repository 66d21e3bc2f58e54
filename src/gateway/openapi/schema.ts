import { type AnyDesc, type DescField, type DescMessage, getOption, ScalarType } from "@bufbuild/protobuf";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { type FieldRules, field as rulesOption } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { example as messageExample, schema as schemaOption } from "#gen/gateway/v1/annotations_pb.js";
import { isNullable } from "../fields.ts";
import { durationPattern, writtenDurationPattern } from "../json/durations.ts";
import { snakeCase } from "./names.ts";
import {
  isAlwaysWritten,
  isRequired,
  namesOf,
  noRules,
  requiresMoreInAnswers,
  type Schema,
  scalar,
  schemaDefaultOf,
} from "./rules.ts";

/** Where a message stands. An answer has more fields for certain than a request must have. */
export type SchemaPosition = "request" | "answer";

export interface Schemas {
  /**
   * A reference to the message's schema, which is then among the components; protobuf's own types have their JSON form.
   * @throws Error where another message of that name is among the components
   */
  reference(message: DescMessage, place: SchemaPosition): Schema;
  /** The schema of a request's message without some of its fields: a reference where none is left out. */
  without(message: DescMessage, left: readonly DescField[]): Schema;
  /** What the field holds, and what the .proto says of it. */
  field(field: DescField, place: SchemaPosition): Schema;
  /** All that were referred to, by name. */
  readonly components: Record<string, Schema>;
}

/**
 * A message that both requests and answers hold is two components where an answer requires more: `company_request` is
 * the request's.
 * @param describe what the .proto says above a declaration
 * @param isAnswered whether answers hold the message
 */
export function createSchemas(
  describe: (desc: AnyDesc) => string,
  isAnswered: (message: DescMessage) => boolean,
): Schemas {
  const components: Record<string, Schema> = {};
  const named = new Map<string, DescMessage>();
  return { components, reference, without, field };

  function reference(message: DescMessage, place: SchemaPosition): Schema {
    const form = wellKnown[message.typeName];
    if (form !== undefined) return place === "answer" ? { ...form, ...written[message.typeName] } : form;
    const isApart = place === "request" && isAnswered(message) && requiresMoreInAnswers(message, []);
    const name = `${snakeCase(message.name)}${isApart ? "_request" : ""}`;
    const other = named.get(name);
    if (other === undefined) {
      named.set(name, message);
      components[name] = object(message, [], place);
    } else if (other !== message) {
      throw new Error(`${other.typeName} and ${message.typeName} would both be the schema ${name}`);
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  function without(message: DescMessage, left: readonly DescField[]): Schema {
    return left.length === 0 ? reference(message, "request") : object(message, left, "request");
  }

  function object(message: DescMessage, left: readonly DescField[], place: SchemaPosition): Schema {
    const fields = message.fields.filter((one) => !left.includes(one));
    const required = fields
      .filter((one) => isRequired(one) || (place === "answer" && isAlwaysWritten(one)))
      .map(({ name }) => name);
    const example = exampleOf(message, left);
    return {
      type: "object",
      ...described(message),
      ...(required.length > 0 && { required }),
      properties: Object.fromEntries(fields.map((one) => [one.name, field(one, place)])),
      ...(example !== undefined && { example }),
    };
  }

  function field(desc: DescField, place: SchemaPosition): Schema {
    const rules = getOption(desc, rulesOption);
    const { format, uniqueItems, example } = getOption(desc, schemaOption);
    return {
      ...described(desc),
      ...content(desc, rules, place),
      ...(format !== "" && { format }),
      ...(uniqueItems && { uniqueItems }),
      ...schemaDefaultOf(desc),
      ...(desc.deprecated && { deprecated: true }),
      ...(example !== "" && { examples: [example] }),
    };
  }

  function content(desc: DescField, rules: FieldRules, place: SchemaPosition): Schema {
    if (desc.fieldKind === "list") return list(desc, rules, place);
    return desc.fieldKind === "map" ? map(desc, rules, place) : single(desc, rules, place);
  }

  function list(desc: DescField & { fieldKind: "list" }, rules: FieldRules, place: SchemaPosition): Schema {
    if (rules.type.case !== "repeated") return { type: "array", items: single(desc, rules, place) };
    const { minItems, maxItems, unique, items } = rules.type.value;
    return {
      type: "array",
      items: single(desc, items ?? noRules, place),
      ...(minItems > 0n && { minItems: Number(minItems) }),
      ...(maxItems > 0n && { maxItems: Number(maxItems) }),
      ...(unique && { uniqueItems: true }),
    };
  }

  function map(desc: DescField & { fieldKind: "map" }, { type: rules }: FieldRules, place: SchemaPosition): Schema {
    if (rules.case !== "map") return { type: "object", additionalProperties: single(desc, noRules, place) };
    const { minPairs, maxPairs, values } = rules.value;
    return {
      type: "object",
      additionalProperties: single(desc, values ?? noRules, place),
      ...(minPairs > 0n && { minProperties: Number(minPairs) }),
      ...(maxPairs > 0n && { maxProperties: Number(maxPairs) }),
    };
  }

  /** One value: the field's, or an item's of its list or map. */
  function single(desc: DescField, rules: FieldRules, place: SchemaPosition): Schema {
    if (desc.enum !== undefined) return { type: "string", enum: namesOf(desc.enum, rules) };
    if (desc.message !== undefined) return message(desc.message, rules, place);
    const { type, ...rest } = scalar(desc.scalar ?? ScalarType.STRING, rules);
    return { type: isNullable(desc) ? [type, "null"] : type, ...rest };
  }

  function message(desc: DescMessage, rules: FieldRules, place: SchemaPosition): Schema {
    const [value] = desc.fields;
    if (isWrapperDesc(desc) && value?.scalar !== undefined) {
      const { type, ...rest } = scalar(value.scalar, rules);
      return { type: [type, "null"], ...rest };
    }
    return reference(desc, place);
  }

  function described(desc: AnyDesc): Schema {
    const description = describe(desc);
    return description === "" ? {} : { description };
  }
}

/** The example that the .proto gives, without some of the fields; undefined where it gives none. */
function exampleOf(message: DescMessage, left: readonly DescField[]): Schema | undefined {
  const text = getOption(message, messageExample);
  if (text === "") return undefined;
  const example = JSON.parse(text) as Schema;
  return Object.fromEntries(Object.entries(example).filter(([name]) => left.every((one) => one.name !== name)));
}

/** The forms that the JSON of protobuf's own types has. */
const wellKnown: Readonly<Record<string, Schema>> = {
  "google.protobuf.Timestamp": { type: "string", format: "date-time" },
  "google.protobuf.Duration": { type: "string", pattern: durationPattern },
  "google.protobuf.FieldMask": { type: "string" },
  "google.protobuf.Empty": { type: "object" },
  "google.protobuf.Any": { type: "object" },
  "google.protobuf.Struct": { type: "object" },
  "google.protobuf.ListValue": { type: "array" },
  "google.protobuf.Value": {},
};

/** Where an answer has fewer forms than a request. */
const written: Readonly<Record<string, Schema>> = {
  "google.protobuf.Duration": { pattern: writtenDurationPattern },
};

import { type AnyDesc, type DescField, type DescMessage, getOption, ScalarType } from "@bufbuild/protobuf";
import { isWrapperDesc } from "@bufbuild/protobuf/wkt";
import { type FieldRules, field as rulesOption } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { example as messageExample, schema as schemaOption } from "#gen/gateway/v1/annotations_pb.js";
import { isNullable, snakeCase } from "../fields.ts";
import { durationPattern, writtenDurationPattern } from "../json/times.ts";
import {
  isAlwaysWritten,
  isRequired,
  namesOf,
  noRules,
  requiresMoreInResponses,
  type Schema,
  scalar,
  schemaDefaultOf,
} from "./rules.ts";

/** Where a message is used. A response always has more fields than a request must have. */
export type SchemaPosition = "request" | "response";

export interface Schemas {
  /**
   * Returns a reference to the message's schema and adds it to the components. Well-known types are inlined.
   * @throws Error when another message has the same name
   */
  reference(message: DescMessage, position: SchemaPosition): Schema;
  /** Returns the schema of a request message without some fields; a reference when none is omitted. */
  without(message: DescMessage, omitted: readonly DescField[]): Schema;
  /** Returns the schema of a field with its comment in the .proto. */
  field(field: DescField, position: SchemaPosition): Schema;
  /** All referenced schemas, by name. */
  readonly components: Record<string, Schema>;
}

/**
 * Creates the schemas of messages. A message of requests and responses becomes two components when responses require more
 * fields: `company_request` is for requests.
 * @param describe returns the comment of a declaration in the .proto
 * @param isInResponses whether responses contain the message
 */
export function createSchemas(
  describe: (desc: AnyDesc) => string,
  isInResponses: (message: DescMessage) => boolean,
): Schemas {
  const components: Record<string, Schema> = {};
  const named = new Map<string, DescMessage>();
  return { components, reference, without, field };

  function reference(message: DescMessage, position: SchemaPosition): Schema {
    const form = wellKnown[message.typeName];
    if (form !== undefined) return position === "response" ? { ...form, ...written[message.typeName] } : form;
    const isSeparate = position === "request" && isInResponses(message) && requiresMoreInResponses(message, []);
    const name = `${snakeCase(message.name)}${isSeparate ? "_request" : ""}`;
    const other = named.get(name);
    if (other === undefined) {
      named.set(name, message);
      components[name] = object(message, [], position);
    } else if (other !== message) {
      throw new Error(`${other.typeName} and ${message.typeName} must not share the schema name ${name}`);
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  function without(message: DescMessage, omitted: readonly DescField[]): Schema {
    return omitted.length === 0 ? reference(message, "request") : object(message, omitted, "request");
  }

  function object(message: DescMessage, omitted: readonly DescField[], position: SchemaPosition): Schema {
    const fields = message.fields.filter((each) => !omitted.includes(each));
    const required = fields
      .filter((each) => isRequired(each) || (position === "response" && isAlwaysWritten(each)))
      .map(({ name }) => name);
    const example = exampleOf(message, omitted);
    return {
      type: "object",
      ...described(message),
      ...(required.length > 0 && { required }),
      properties: Object.fromEntries(fields.map((each) => [each.name, field(each, position)])),
      ...(example !== undefined && { example }),
    };
  }

  function field(desc: DescField, position: SchemaPosition): Schema {
    const rules = getOption(desc, rulesOption);
    const { format, uniqueItems, example } = getOption(desc, schemaOption);
    return {
      ...described(desc),
      ...content(desc, rules, position),
      ...(format !== "" && { format }),
      ...(uniqueItems && { uniqueItems }),
      ...schemaDefaultOf(desc),
      ...(desc.deprecated && { deprecated: true }),
      ...(example !== "" && { examples: [example] }),
    };
  }

  function content(desc: DescField, rules: FieldRules, position: SchemaPosition): Schema {
    if (desc.fieldKind === "list") return list(desc, rules, position);
    return desc.fieldKind === "map" ? map(desc, rules, position) : single(desc, rules, position);
  }

  function list(desc: DescField & { fieldKind: "list" }, rules: FieldRules, position: SchemaPosition): Schema {
    if (rules.type.case !== "repeated") return { type: "array", items: single(desc, rules, position) };
    const { minItems, maxItems, unique, items } = rules.type.value;
    return {
      type: "array",
      items: single(desc, items ?? noRules, position),
      ...(minItems > 0n && { minItems: Number(minItems) }),
      ...(maxItems > 0n && { maxItems: Number(maxItems) }),
      ...(unique && { uniqueItems: true }),
    };
  }

  function map(desc: DescField & { fieldKind: "map" }, { type: rules }: FieldRules, position: SchemaPosition): Schema {
    if (rules.case !== "map") return { type: "object", additionalProperties: single(desc, noRules, position) };
    const { minPairs, maxPairs, values } = rules.value;
    return {
      type: "object",
      additionalProperties: single(desc, values ?? noRules, position),
      ...(minPairs > 0n && { minProperties: Number(minPairs) }),
      ...(maxPairs > 0n && { maxProperties: Number(maxPairs) }),
    };
  }

  /** Returns the schema of one value: of the field, or of an item in its list or map. */
  function single(desc: DescField, rules: FieldRules, position: SchemaPosition): Schema {
    if (desc.enum !== undefined) return { type: "string", enum: namesOf(desc.enum, rules) };
    if (desc.message !== undefined) return message(desc.message, rules, position);
    const { type, ...rest } = scalar(desc.scalar ?? ScalarType.STRING, rules);
    return { type: isNullable(desc) ? [type, "null"] : type, ...rest };
  }

  function message(desc: DescMessage, rules: FieldRules, position: SchemaPosition): Schema {
    const [value] = desc.fields;
    if (isWrapperDesc(desc) && value?.scalar !== undefined) {
      const { type, ...rest } = scalar(value.scalar, rules);
      return { type: [type, "null"], ...rest };
    }
    return reference(desc, position);
  }

  function described(desc: AnyDesc): Schema {
    const description = describe(desc);
    return description === "" ? {} : { description };
  }
}

/** Returns the example in the .proto without some fields; undefined when there is none. */
function exampleOf(message: DescMessage, omitted: readonly DescField[]): Schema | undefined {
  const text = getOption(message, messageExample);
  if (text === "") return undefined;
  const example = JSON.parse(text) as Schema;
  return Object.fromEntries(Object.entries(example).filter(([name]) => omitted.every((field) => field.name !== name)));
}

/** The JSON forms of well-known types. */
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

/** Restrictions of those forms in responses. */
const written: Readonly<Record<string, Schema>> = {
  "google.protobuf.Duration": { pattern: writtenDurationPattern },
};

import type { AnyDesc, DescField, DescMessage, DescMethod, DescService } from "@bufbuild/protobuf";
import { getOption } from "@bufbuild/protobuf";
import { operation as operationOption, tag as tagOption } from "#gen/gateway/v1/annotations_pb.js";
import { type Binding, bindingsOf } from "../binding.ts";
import { snakeCase } from "./names.ts";
import { createSchemas, type Schema, type Schemas } from "./schema.ts";

export interface DocumentOptions {
  readonly info: { readonly title: string; readonly version: string; readonly description: string };
  readonly servers: readonly { readonly url: string }[];
  /** The name and the form of the security scheme that all operations need which are not public. */
  readonly security: { readonly name: string; readonly scheme: Schema };
  readonly isPublic: (method: DescMethod) => boolean;
  /** The body of an error, and of the 404 of a missing resource. */
  readonly error: DescMessage;
  readonly notFound: DescMessage;
  /** What the .proto says above a declaration. */
  readonly describe: (desc: AnyDesc) => string;
}

export interface Operation {
  readonly tags: readonly string[];
  readonly operationId: string;
  readonly description: string;
  readonly parameters?: readonly Parameter[];
  readonly responses: Readonly<Record<string, { readonly description: string; readonly content?: Content }>>;
  readonly requestBody?: { readonly required: true; readonly content: Content };
  readonly security?: readonly [];
}

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query";
  readonly description: string;
  readonly required?: true;
  readonly deprecated?: true;
  readonly schema: Schema;
}

export type Content = Readonly<Record<string, { readonly schema: Schema }>>;

export interface OpenApi {
  readonly openapi: "3.1.0";
  readonly info: DocumentOptions["info"];
  readonly servers: DocumentOptions["servers"];
  readonly security: readonly Schema[];
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly securitySchemes: Schema; readonly schemas: Readonly<Record<string, Schema>> };
}

/** The OpenAPI 3.1 document of the services' google.api.http bindings. */
export function createDocument(services: readonly DescService[], options: DocumentOptions): OpenApi {
  const schemas = createSchemas(options.describe);
  const paths: Record<string, Record<string, Operation>> = {};
  for (const binding of services.flatMap((service) => bindingsOf(service))) {
    const path = (paths[pathOf(binding)] ??= {});
    path[binding.httpMethod.toLowerCase()] = createOperation(binding, schemas, options);
  }
  const tagged = services.filter((service) => bindingsOf(service).length > 0);
  return {
    openapi: "3.1.0",
    info: options.info,
    servers: options.servers,
    security: [{ [options.security.name]: [] }],
    tags: tagged.map((service) => ({ name: getOption(service, tagOption), description: options.describe(service) })),
    paths,
    components: {
      securitySchemes: { [options.security.name]: options.security.scheme },
      schemas: Object.fromEntries(
        Object.entries(schemas.components).toSorted(([one], [other]) => (one < other ? -1 : 1)),
      ),
    },
  };
}

function createOperation(binding: Binding, schemas: Schemas, options: DocumentOptions): Operation {
  const { method } = binding;
  const named = new Set(method.input.fields.filter((field) => pathNames(binding).includes(field.name)));
  const inQuery =
    binding.body === "*" ? [] : method.input.fields.filter((field) => !named.has(field) && field !== binding.body);
  const parameters = [
    ...[...named].map((field) => createParameter(field, "path", schemas)),
    ...inQuery.map((field) => createParameter(field, "query", schemas)),
  ];
  return {
    tags: [getOption(method.parent, tagOption)],
    operationId: snakeCase(method.name),
    description: options.describe(method),
    ...(parameters.length > 0 && { parameters }),
    ...(binding.body !== undefined && {
      requestBody: { required: true, content: json(bodySchema(binding, named, schemas)) },
    }),
    responses: createResponses(binding, schemas, options),
    ...(options.isPublic(method) && { security: [] }),
  };
}

function createParameter(field: DescField, place: "path" | "query", schemas: Schemas): Parameter {
  const { description, deprecated, ...schema } = schemas.field(field);
  return {
    name: field.name,
    in: place,
    description: typeof description === "string" ? description : "",
    ...(place === "path" && { required: true }),
    ...(deprecated === true && { deprecated: true }),
    schema,
  };
}

function bodySchema({ method, body }: Binding, named: ReadonlySet<DescField>, schemas: Schemas): Schema {
  if (typeof body === "object") return schemas.field(body);
  return named.size === 0 ? schemas.reference(method.input) : schemas.without(method.input, named);
}

function createResponses(binding: Binding, schemas: Schemas, options: DocumentOptions): Operation["responses"] {
  const { method, status } = binding;
  const { notFound } = getOption(method, operationOption);
  return {
    [status]: {
      description: successes[status] ?? "Success.",
      ...(status !== 204 && { content: answerContent(binding, schemas) }),
    },
    ...(notFound && {
      "404": { description: "No such resource.", content: json(schemas.reference(options.notFound)) },
    }),
    default: { description: "What went wrong.", content: json(schemas.reference(options.error)) },
  };
}

const successes: Readonly<Record<number, string>> = { 200: "Done.", 201: "Created.", 204: "Done; nothing to say." };

function answerContent({ method, responseBody }: Binding, schemas: Schemas): Content {
  if (method.output.typeName === "google.api.HttpBody") {
    const { mediaTypes } = getOption(method, operationOption);
    return Object.fromEntries(mediaTypes.map((type) => [type, { schema: fileSchema(type) }]));
  }
  return json(responseBody === undefined ? schemas.reference(method.output) : schemas.field(responseBody));
}

function fileSchema(mediaType: string): Schema {
  if (mediaType === "application/json") return {};
  return { type: "string", ...(!mediaType.startsWith("text/") && { format: "binary" }) };
}

function json(schema: Schema): Content {
  return { "application/json": { schema } };
}

function pathNames({ template }: Binding): string[] {
  return template.variables.map(({ fieldPath }) => fieldPath.join("."));
}

/** OpenAPI knows `{name}` alone. */
function pathOf({ pattern }: Binding): string {
  return pattern.replaceAll(/\{([\w.]+)=[^}]*\}/g, "{$1}");
}

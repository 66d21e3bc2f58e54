import type { AnyDesc, DescMessage, DescMethod, DescService } from "@bufbuild/protobuf";
import { getOption } from "@bufbuild/protobuf";
import { operation as operationOption, tag as tagOption } from "#gen/gateway/v1/annotations_pb.js";
import { type Binding, bindingsOf, respondsWithFile } from "../binding.ts";
import { snakeCase } from "../fields.ts";
import { type Parameter, parametersOf } from "./parameters.ts";
import type { Schema } from "./rules.ts";
import { createSchemas, type Schemas } from "./schema.ts";

export interface DocumentOptions {
  readonly info: {
    readonly title: string;
    readonly version: string;
    readonly description: string;
    readonly license: { readonly name: string; readonly identifier: string };
    readonly contact: { readonly name: string };
  };
  readonly servers: readonly { readonly url: string; readonly description?: string }[];
  /** The security scheme of all operations that are not public. */
  readonly security: { readonly name: string; readonly scheme: Schema };
  readonly isPublic: (method: DescMethod) => boolean;
  /** Whether the operation needs a role in addition to a token. */
  readonly needsRole: (method: DescMethod) => boolean;
  /** The messages of an error body and of the 404 body for a missing resource. */
  readonly error: DescMessage;
  readonly notFound: DescMessage;
  /** Returns the comment of a declaration in the .proto. */
  readonly describe: (desc: AnyDesc) => string;
}

export interface Operation {
  readonly tags: readonly string[];
  readonly operationId: string;
  readonly summary: string;
  readonly description: string;
  readonly parameters?: readonly Parameter[];
  readonly responses: Readonly<Record<string, { readonly description: string; readonly content?: Content }>>;
  readonly requestBody?: { readonly required: true; readonly content: Content };
  readonly deprecated?: true;
  readonly security?: readonly [];
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

/**
 * Creates the OpenAPI 3.1 document of the services' google.api.http bindings. It leaves out RPCs without a binding and
 * bindings of HTTP methods that OpenAPI does not support.
 * @throws Error when two bindings or two messages would have the same place or name in the document
 */
export function createDocument(services: readonly DescService[], options: DocumentOptions): OpenApi {
  const outputs = services.flatMap(({ methods }) => methods.map(({ output }) => output));
  const inResponses = messagesIn([...outputs, options.error, options.notFound]);
  const schemas = createSchemas(options.describe, (message) => inResponses.has(message));
  const paths: Record<string, Record<string, Operation>> = {};
  const tags = new Map<string, string>();
  const operationIds = new Set<string>();
  for (const service of services) {
    const all = bindingsOf(service).filter(({ httpMethod }) => verbs.has(httpMethod));
    const bindings = all.filter((binding) => firstOf(binding, all) === binding);
    const tag = getOption(service, tagOption);
    if (bindings.length > 0 && !tags.has(tag)) tags.set(tag, options.describe(service));
    for (const binding of bindings) {
      const path = pathOf(binding);
      const verb = binding.httpMethod.toLowerCase();
      const operations = (paths[path] ??= {});
      if (operations[verb] !== undefined) throw new Error(`${verb} ${path} must be bound once`);
      const operationId = operationIdOf(binding, all);
      if (operationIds.has(operationId)) throw new Error(`${operationId} must be the name of one operation`);
      operationIds.add(operationId);
      const aliases = all.filter((other) => other !== binding && firstOf(other, all) === binding);
      const operation = createOperation(binding, operationId, schemas, options);
      const also = aliases.map((alias) => ` Also \`${verb.toUpperCase()} ${pathOf(alias)}\`.`).join("");
      operations[verb] = { ...operation, description: operation.description + also };
    }
  }
  return {
    openapi: "3.1.0",
    info: options.info,
    servers: options.servers,
    security: [{ [options.security.name]: [] }],
    tags: [...tags].map(([name, description]) => ({ name, description })),
    paths,
    components: {
      securitySchemes: { [options.security.name]: options.security.scheme },
      schemas: Object.fromEntries(
        Object.entries(schemas.components).toSorted(([left], [right]) => (left < right ? -1 : 1)),
      ),
    },
  };
}

/**
 * Returns the first binding with the same RPC, HTTP method and first path segment. The others are aliases of that
 * operation.
 */
function firstOf(binding: Binding, bindings: readonly Binding[]): Binding | undefined {
  return bindings.find(
    (other) =>
      other.method === binding.method &&
      other.httpMethod === binding.httpMethod &&
      segmentOf(other) === segmentOf(binding),
  );
}

/** `/account/token/generation` → `account`. */
function segmentOf({ pattern }: Binding): string {
  return /^\/(\w+)/.exec(pattern)?.[1] ?? "";
}

/** HTTP methods that OpenAPI 3.1 supports. */
const verbs: ReadonlySet<string> = new Set(["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"]);

/**
 * Returns the RPC's name in snake_case. Further bindings get the first path segment as a prefix or, when it is the first
 * binding's, a number as a suffix.
 */
function operationIdOf(binding: Binding, bindings: readonly Binding[]): string {
  const own = bindings.filter(({ method }) => method === binding.method);
  const name = snakeCase(binding.method.name);
  const [first] = own;
  if (first !== undefined && segmentOf(first) !== segmentOf(binding)) return `${segmentOf(binding)}_${name}`;
  const place = own.filter((other) => segmentOf(other) === segmentOf(binding)).indexOf(binding);
  return place === 0 ? name : `${name}_${place + 1}`;
}

function createOperation(binding: Binding, operationId: string, schemas: Schemas, options: DocumentOptions): Operation {
  const { method, body } = binding;
  const parameters = parametersOf(binding, schemas);
  return {
    tags: [getOption(method.parent, tagOption)],
    operationId,
    summary: summaryOf(options.describe(method), operationId),
    description: options.describe(method),
    ...(parameters.length > 0 && { parameters }),
    ...(body !== undefined && { requestBody: { required: true, content: bodyContent(binding, schemas) } }),
    responses: createResponses(binding, schemas, options),
    ...(method.deprecated && { deprecated: true }),
    ...(options.isPublic(method) && { security: [] }),
  };
}

function bodyContent(binding: Binding, schemas: Schemas): Content {
  const { body } = binding;
  const isFile = typeof body === "object" && body.message?.typeName === "google.api.HttpBody";
  return isFile ? { "*/*": { schema: fileSchema("*/*") } } : json(bodySchema(binding, schemas));
}

function bodySchema({ method, body, template }: Binding, schemas: Schemas): Schema {
  if (typeof body === "object") return schemas.field(body, "request");
  const variables = new Set(template.variables.map(({ fieldPath }) => fieldPath.join(".")));
  return schemas.without(
    method.input,
    method.input.fields.filter(({ name }) => variables.has(name)),
  );
}

function createResponses(binding: Binding, schemas: Schemas, options: DocumentOptions): Operation["responses"] {
  const { method, status } = binding;
  const { notFound, ranges } = getOption(method, operationOption);
  const error = json(schemas.reference(options.error, "response"));
  const missing = json(schemas.reference(options.notFound, "response"));
  const errors = errorsOf(binding, options).map((code) => [
    code,
    { description: failures[code] ?? "Refused.", content: code === 404 && notFound ? missing : error },
  ]);
  return {
    [status]: {
      description: successes[status] ?? "Success.",
      ...(status !== 204 && { content: responseContent(binding, schemas) }),
    },
    ...(ranges && {
      "206": { description: "The requested range.", content: responseContent(binding, schemas) },
    }),
    ...Object.fromEntries(errors),
    default: { description: "Another error.", content: error },
  };
}

/** The 4xx statuses that an operation can return, in order. */
function errorsOf({ method, body }: Binding, { isPublic, needsRole }: DocumentOptions): number[] {
  const { notFound, ranges, errors } = getOption(method, operationOption);
  const statuses = new Set([400, ...errors]);
  if (!isPublic(method) || errors.includes(429)) statuses.add(401);
  if (!isPublic(method) && needsRole(method)) statuses.add(403);
  if (notFound) statuses.add(404);
  if (ranges) statuses.add(416);
  if (body !== undefined) statuses.add(413).add(415);
  return [...statuses].toSorted((left, right) => left - right);
}

const failures: Readonly<Record<number, string>> = {
  400: "The request is invalid: `validations` lists the fields and their rules.",
  401: "The token or the credentials are missing or invalid.",
  403: "The caller's roles do not allow the operation. For quotas: the user is disabled or has no quota.",
  404: "The resource does not exist.",
  409: "The key already exists, or the state of the resource does not allow the operation: see `reason`.",
  408: "The body did not arrive in time.",
  412: "`If-Match` does not name the current version of the file.",
  413: "The body is too large.",
  415: "The body is not JSON in UTF-8, or compressed.",
  416: "The requested range does not exist.",
  429: "Too many requests, or the quota is used up: retry after `Retry-After`.",
};

/** The first sentence of a description. */
function summaryOf(description: string, operationId: string): string {
  const [sentence = ""] = description.split(/(?<=[^.][.:;])\s/, 1);
  return sentence.replace(/[.:;]$/, "") || operationId;
}

/** The messages and all messages in their fields. */
function messagesIn(messages: readonly DescMessage[]): ReadonlySet<DescMessage> {
  const found = new Set<DescMessage>();
  const addMessage = (message: DescMessage) => {
    if (found.has(message)) return;
    found.add(message);
    for (const field of message.fields) if (field.message !== undefined) addMessage(field.message);
  };
  for (const message of messages) addMessage(message);
  return found;
}

const successes: Readonly<Record<number, string>> = { 200: "Done.", 201: "Created.", 204: "Done; no content." };

function responseContent(binding: Binding, schemas: Schemas): Content {
  const { method, responseBody } = binding;
  const { mediaTypes } = getOption(method, operationOption);
  if (respondsWithFile(binding)) {
    return Object.fromEntries(mediaTypes.map((type) => [type, { schema: fileSchema(type) }]));
  }
  const schema =
    responseBody === undefined ? schemas.reference(method.output, "response") : schemas.field(responseBody, "response");
  // The other formats of a list are lines of text.
  return { ...json(schema), ...Object.fromEntries(mediaTypes.map((type) => [type, { schema: { type: "string" } }])) };
}

function fileSchema(mediaType: string): Schema {
  if (mediaType === "application/json") return {};
  return { type: "string", ...(!mediaType.startsWith("text/") && { format: "binary" }) };
}

function json(schema: Schema): Content {
  return { "application/json": { schema } };
}

/** Reduces `{name=pattern}` to `{name}`, the only form in OpenAPI. */
function pathOf({ pattern }: Binding): string {
  return pattern.replaceAll(/\{([\w.]+)=[^}]*\}/g, "{$1}");
}

import type { AnyDesc, DescMessage, DescMethod, DescService } from "@bufbuild/protobuf";
import { getOption } from "@bufbuild/protobuf";
import { operation as operationOption, tag as tagOption } from "#gen/gateway/v1/annotations_pb.js";
import { answersFile, type Binding, bindingsOf } from "../binding.ts";
import { snakeCase } from "./names.ts";
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
  /** The name and the form of the security scheme that all operations need which are not public. */
  readonly security: { readonly name: string; readonly scheme: Schema };
  readonly isPublic: (method: DescMethod) => boolean;
  /** Whether a caller with a token may lack a role that the operation needs. */
  readonly needsRole: (method: DescMethod) => boolean;
  /** The body of an error, and of the 404 of a missing resource. */
  readonly error: DescMessage;
  readonly notFound: DescMessage;
  /** What the .proto says above a declaration. */
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
 * The OpenAPI 3.1 document of the services' google.api.http bindings. RPCs without a binding, and bindings of HTTP
 * methods that OpenAPI has no word for, are not in it.
 * @throws Error for two bindings or two messages that the document would give one place or name
 */
export function createDocument(services: readonly DescService[], options: DocumentOptions): OpenApi {
  const outputs = services.flatMap(({ methods }) => methods.map(({ output }) => output));
  const answers = messagesIn([...outputs, options.error, options.notFound]);
  const schemas = createSchemas(options.describe, (message) => answers.has(message));
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
      if (operations[verb] !== undefined) throw new Error(`${verb} ${path} would be in the document twice`);
      const operationId = operationIdOf(binding, all);
      if (operationIds.has(operationId)) throw new Error(`${operationId} would be the name of two operations`);
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
        Object.entries(schemas.components).toSorted(([one], [other]) => (one < other ? -1 : 1)),
      ),
    },
  };
}

/**
 * The first binding of the same RPC, HTTP method and first segment of the path: the others are further paths of one
 * operation, not operations.
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

/** What an operation can be under in a path of OpenAPI 3.1. */
const verbs: ReadonlySet<string> = new Set(["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"]);

/**
 * The RPC's name. Those of its further bindings begin with the first segment of their path or, where it is the first
 * binding's, end with a number.
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
  const error = json(schemas.reference(options.error, "answer"));
  const missing = json(schemas.reference(options.notFound, "answer"));
  const errors = errorsOf(binding, options).map((code) => [
    code,
    { description: failures[code] ?? "Refused.", content: code === 404 && notFound ? missing : error },
  ]);
  return {
    [status]: {
      description: successes[status] ?? "Success.",
      ...(status !== 204 && { content: answerContent(binding, schemas) }),
    },
    ...(ranges && {
      "206": { description: "The part that Range asks for.", content: answerContent(binding, schemas) },
    }),
    ...Object.fromEntries(errors),
    default: { description: "Another error.", content: error },
  };
}

/** The statuses of 4xx that an operation can answer, in order. */
function errorsOf({ method, body }: Binding, { isPublic, needsRole }: DocumentOptions): number[] {
  const { notFound, ranges, errors } = getOption(method, operationOption);
  const statuses = new Set([400, ...errors]);
  if (!isPublic(method) || errors.includes(429)) statuses.add(401);
  if (!isPublic(method) && needsRole(method)) statuses.add(403);
  if (notFound) statuses.add(404);
  if (ranges) statuses.add(416);
  if (body !== undefined) statuses.add(413).add(415);
  return [...statuses].toSorted((one, other) => one - other);
}

const failures: Readonly<Record<number, string>> = {
  400: "The request breaks a rule: `validations` names the fields.",
  401: "There is no valid token, or the credentials are wrong.",
  403: "The caller's roles do not allow it; over quotas, the user is disabled or has no quota.",
  404: "No such resource.",
  409: "The key exists already, or the state of things forbids it: see `reason`.",
  408: "The body did not come in time.",
  412: "The file has another version than `If-Match` names.",
  413: "The body is too large.",
  415: "The body is not JSON in UTF-8, or compressed.",
  416: "There is no such part.",
  429: "Too many: try again after `Retry-After`.",
};

/** The first sentence of a description. */
function summaryOf(description: string, operationId: string): string {
  const [sentence = ""] = description.split(/(?<=[^.][.:;])\s/, 1);
  return sentence.replace(/[.:;]$/, "") || operationId;
}

/** The messages, and those within them. */
function messagesIn(messages: readonly DescMessage[]): ReadonlySet<DescMessage> {
  const found = new Set<DescMessage>();
  const visit = (message: DescMessage) => {
    if (found.has(message)) return;
    found.add(message);
    for (const field of message.fields) if (field.message !== undefined) visit(field.message);
  };
  for (const message of messages) visit(message);
  return found;
}

const successes: Readonly<Record<number, string>> = { 200: "Done.", 201: "Created.", 204: "Done; nothing to say." };

function answerContent(binding: Binding, schemas: Schemas): Content {
  const { method, responseBody } = binding;
  if (answersFile(binding)) {
    const { mediaTypes } = getOption(method, operationOption);
    return Object.fromEntries(mediaTypes.map((type) => [type, { schema: fileSchema(type) }]));
  }
  return json(
    responseBody === undefined ? schemas.reference(method.output, "answer") : schemas.field(responseBody, "answer"),
  );
}

function fileSchema(mediaType: string): Schema {
  if (mediaType === "application/json") return {};
  return { type: "string", ...(!mediaType.startsWith("text/") && { format: "binary" }) };
}

function json(schema: Schema): Content {
  return { "application/json": { schema } };
}

/** OpenAPI knows `{name}` alone. */
function pathOf({ pattern }: Binding): string {
  return pattern.replaceAll(/\{([\w.]+)=[^}]*\}/g, "{$1}");
}

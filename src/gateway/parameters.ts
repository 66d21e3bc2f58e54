import { create, type DescField, type DescMessage, type JsonValue, type Message } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect, scalarEquals } from "@bufbuild/protobuf/reflect";
import { type Binding, respondsWithFile } from "./binding.ts";
import { badField } from "./errors.ts";
import { type FieldPath, fieldsByName, isWellKnown, nameOf } from "./fields.ts";
import { isSetInJson } from "./json/read.ts";
import { decodePercent, type Variable } from "./template.ts";
import { isText, setText } from "./text.ts";

/** Sets the fields of a request from the path and the query. */
export interface Parameters {
  /** The fields that the path sets. */
  readonly inPath: readonly FieldPath[];
  /**
   * Sets the fields of a request.
   * @throws INVALID_ARGUMENT that names the parameter
   */
  bind(request: Message, given: Given): void;
}

export interface Given {
  /** The segments of the path, percent-encoded. */
  readonly segments: readonly string[];
  readonly query: string;
  /** The JSON of the body, as fields of the request; undefined without a body. */
  readonly body: JsonValue | undefined;
}

/** @param maxDepth the longest field path in the query: each step creates a message */
export function createParameters(binding: Binding, maxDepth: number): Parameters {
  const { method, template, body, mask } = binding;
  const variables = template.variables.map((variable) => ({ variable, path: pathOf(method.input, variable) }));
  const checkSystemParameter = createSystemParameterCheck(respondsWithFile(binding));
  const reserved = new Map(
    variables.map(({ path }) => [nameOf(path), "must not be set in the query: the path sets it"]),
  );

  return {
    inPath: variables.map(({ path }) => path),
    bind(request, given) {
      const message = reflect(method.input, request);
      for (const { variable, path } of variables) bindVariable(message, path, variable, given);
      for (const { name, path, texts } of readQuery(given.query, findField, checkSystemParameter)) {
        const [parent, field] = resolve(message, path, name);
        if (texts.length > 1 && field.fieldKind !== "list") throw badField(name, "must be set once");
        setText(parent, field, texts, name);
      }
    },
  };

  /** Returns the path to the field that a query parameter names. */
  function findField(name: string): FieldPath {
    const path = body === "*" ? undefined : findPath(method.input, name, maxDepth);
    if (path === undefined || path[0] === mask) throw badField(name, unknownParameter);
    if (path[0] === body) throw badField(name, "must be set in the body");
    const rule = reserved.get(nameOf(path));
    if (rule !== undefined) throw badField(name, rule);
    return path;
  }
}

function bindVariable(message: ReflectMessage, path: FieldPath, variable: Variable, given: Given): void {
  const name = nameOf(path);
  const [parent, field] = resolve(message, path, name);
  const inBody = isSetInJson(given.body, path) ? { value: parent.get(field) } : undefined;
  setText(parent, field, [decodeVariable(given.segments, variable, name)], name);
  if (inBody !== undefined && !isSame(field, inBody.value, parent.get(field))) {
    throw badField(name, "must be the same in the path and in the body");
  }
}

interface QueryField {
  readonly name: string;
  readonly path: FieldPath;
  readonly texts: string[];
}

/** Groups the texts of a query by field. Both spellings of a name are one field. */
function readQuery(
  query: string,
  findField: (name: string) => FieldPath,
  checkSystemParameter: (name: string, text: string) => void,
): Iterable<QueryField> {
  const fields = new Map<string, QueryField>();
  const systemNames = new Set<string>();
  for (const pair of query.split("&")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    const encoded = equals === -1 ? pair : pair.slice(0, equals);
    const key = decodeQuery(encoded, encoded);
    const text = decodeQuery(equals === -1 ? "" : pair.slice(equals + 1), key);
    if (key.startsWith("$")) {
      checkSystemParameter(key, text);
      if (systemNames.has(key)) throw badField(key, "must be set once");
      systemNames.add(key);
      continue;
    }
    const path = findField(key);
    // An empty value counts as absent.
    if (text === "") continue;
    const name = nameOf(path);
    const field = fields.get(name);
    if (field === undefined) fields.set(name, { name, path, texts: [text] });
    else field.texts.push(text);
  }
  return fields.values();
}

/** Finds the field of a name in either spelling, with dots for nested fields; undefined when it cannot be set from text. */
function findPath(desc: DescMessage, name: string, maxDepth: number): FieldPath | undefined {
  const path: DescField[] = [];
  let message: DescMessage | undefined = desc;
  for (const part of name.split(".", maxDepth + 1)) {
    const field: DescField | undefined = message && fieldsByName(message).get(part);
    if (field === undefined || path.length === maxDepth) return undefined;
    path.push(field);
    message = field.fieldKind === "message" && !isWellKnown(field.message) ? field.message : undefined;
  }
  const last = path.at(-1);
  return last !== undefined && isText(last) ? path : undefined;
}

function pathOf(desc: DescMessage, { fieldPath }: Variable): FieldPath {
  let message: DescMessage | undefined = desc;
  return fieldPath.map((name) => {
    const field: DescField | undefined = message?.fields.find((candidate) => candidate.name === name);
    if (field === undefined) throw new Error(`${desc.typeName} has no field ${fieldPath.join(".")}`);
    message = field.message;
    return field;
  });
}

/** Returns the last field of a path and the message that holds it. Absent messages on the path are created. */
function resolve(message: ReflectMessage, path: FieldPath, name: string): [ReflectMessage, DescField] {
  let parent = message;
  for (const [index, field] of path.entries()) {
    const other = field.oneof && parent.oneofCase(field.oneof);
    if (other !== undefined && other !== field) throw badField(name, `must not be set together with ${other.name}`);
    if (index === path.length - 1) return [parent, field];
    if (field.fieldKind !== "message") throw new Error(`${field.name} must be a message`);
    if (!parent.isSet(field)) parent.set(field, reflect(field.message, create(field.message)));
    parent = parent.get(field);
  }
  throw new Error("a field path must not be empty");
}

function isSame(field: DescField, left: unknown, right: unknown): boolean {
  if (field.fieldKind !== "scalar") return left === right;
  return scalarEquals(field.scalar, left as string, right as string);
}

/** Decodes a variable. One of several segments keeps %2F and %2f, which would otherwise separate segments. */
function decodeVariable(segments: readonly string[], { start, end, multiple, open }: Variable, name: string): string {
  if (!multiple) return decode(segments[start] ?? "", name);
  const decodeSegment = (segment: string) =>
    segment
      .split(/(%2f)/i)
      .map((part, index) => (index % 2 === 0 ? decode(part, name) : part))
      .join("");
  return segments
    .slice(start, open ? undefined : end)
    .map((segment) => decodeSegment(segment))
    .join("/");
}

const unknownParameter = "must be a query parameter of this operation";

/**
 * Checks the query's system parameters, whose names begin with "$". Generated Google clients send them. Each is accepted
 * only with the value that describes what the gateway does anyway.
 */
function createSystemParameterCheck(isFile: boolean): (name: string, text: string) => void {
  const accepted = new Map([
    ["$alt", isFile ? "media" : "json"],
    ["$prettyPrint", "false"],
    ["$fields", "*"],
  ]);
  return (name, text) => {
    const expected = accepted.get(name);
    if (expected === undefined) throw badField(name, unknownParameter);
    if (text !== expected) throw badField(name, `must be ${expected}`);
  };
}

function decodeQuery(text: string, name: string): string {
  return decode(text.replaceAll("+", " "), name);
}

function decode(text: string, name: string): string {
  const decoded = decodePercent(text);
  if (decoded === undefined) throw badField(name, "must be percent-encoded UTF-8");
  return decoded;
}

import { create, type DescField, type DescMessage, type JsonValue, type Message } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect, scalarEquals } from "@bufbuild/protobuf/reflect";
import { answersFile, type Binding } from "./binding.ts";
import { badField } from "./errors.ts";
import { type FieldPath, fieldsByName, isWellKnown, nameOf } from "./fields.ts";
import { isGiven } from "./json/read.ts";
import { decodePercent } from "./percent.ts";
import { createSystemParameters } from "./system-parameters.ts";
import type { Variable } from "./template.ts";
import { isText, setText } from "./text.ts";

/** What a binding takes from the path and the query. */
export interface Parameters {
  /** The fields that the path names. */
  readonly inPath: readonly FieldPath[];
  /** Puts the values of the path and the query into a request. */
  bind(request: Message, given: Given): void;
}

export interface Given {
  /** The segments of the path, percent-encoded. */
  readonly segments: readonly string[];
  readonly query: string;
  /** The JSON that the request was read from, as far as it came by the body. */
  readonly body: JsonValue | undefined;
}

/** @param maxDepth how deep a name in the query may reach: each of its steps makes a message */
export function createParameters(binding: Binding, maxDepth: number): Parameters {
  const { method, template, body, mask } = binding;
  const variables = template.variables.map((variable) => ({ variable, path: pathOf(method.input, variable) }));
  const checkSystemParameter = createSystemParameters(answersFile(binding));
  const taken = new Map(variables.map(({ path }) => [nameOf(path), "is given twice: in the path and in the query"]));

  return {
    inPath: variables.map(({ path }) => path),
    bind(request, given) {
      const message = reflect(method.input, request);
      for (const { variable, path } of variables) bindVariable(message, path, variable, given);
      for (const { name, path, texts } of readQuery(given.query, findField, checkSystemParameter)) {
        const [parent, field] = resolve(message, path, name);
        if (texts.length > 1 && field.fieldKind !== "list") throw badField(name, "is given twice");
        setText(parent, field, texts, name);
      }
    },
  };

  /** The field that a name in the query means. */
  function findField(name: string): FieldPath {
    const path = body === "*" ? undefined : findPath(method.input, name, maxDepth);
    if (path === undefined || path[0] === mask) throw badField(name, "is no query parameter of this operation");
    if (path[0] === body) throw badField(name, "belongs into the body");
    const reason = taken.get(nameOf(path));
    if (reason !== undefined) throw badField(name, reason);
    return path;
  }
}

function bindVariable(message: ReflectMessage, path: FieldPath, variable: Variable, given: Given): void {
  const name = nameOf(path);
  const [parent, field] = resolve(message, path, name);
  const inBody = isGiven(given.body, path) ? { value: parent.get(field) } : undefined;
  setText(parent, field, [decodeVariable(given.segments, variable, name)], name);
  if (inBody !== undefined && !isSame(field, inBody.value, parent.get(field))) {
    throw badField(name, "is given twice: in the path and in the body");
  }
}

interface QueryField {
  readonly name: string;
  readonly path: FieldPath;
  readonly texts: string[];
}

/** The fields of a query and their texts: one of both spellings is one field. */
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
      if (systemNames.has(key)) throw badField(key, "is given twice");
      systemNames.add(key);
      continue;
    }
    const path = findField(key);
    // An empty value is none, on every operation.
    if (text === "") continue;
    const name = nameOf(path);
    const field = fields.get(name);
    if (field === undefined) fields.set(name, { name, path, texts: [text] });
    else field.texts.push(text);
  }
  return fields.values();
}

/** The way to the field of a name in either spelling, nested ones by dots; undefined where no text can be its value. */
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

/** The field at the end of the way and the message that holds it, made where it is not there. */
function resolve(message: ReflectMessage, path: FieldPath, name: string): [ReflectMessage, DescField] {
  let parent = message;
  for (const [index, field] of path.entries()) {
    const other = field.oneof && parent.oneofCase(field.oneof);
    if (other !== undefined && other !== field) throw badField(name, `excludes ${other.name}, which is given too`);
    if (index === path.length - 1) return [parent, field];
    if (field.fieldKind !== "message") throw new Error(`${field.name} is no message`);
    if (!parent.isSet(field)) parent.set(field, reflect(field.message, create(field.message)));
    parent = parent.get(field);
  }
  throw new Error("a way to no field");
}

function isSame(field: DescField, one: unknown, other: unknown): boolean {
  if (field.fieldKind !== "scalar") return one === other;
  return scalarEquals(field.scalar, one as string, other as string);
}

/** Decodes single-segment variables whole. Multi-segment variables keep %2F and %2f, which would be a new segment. */
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

function decodeQuery(text: string, name: string): string {
  return decode(text.replaceAll("+", " "), name);
}

function decode(text: string, name: string): string {
  const decoded = decodePercent(text);
  if (decoded === undefined) throw badField(name, "is not percent-encoded UTF-8");
  return decoded;
}

import {
  create,
  type DescField,
  type DescMessage,
  fromJson,
  type JsonValue,
  type Message,
  ScalarType,
} from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import type { Binding } from "./binding.ts";
import { badField, reasonOf } from "./errors.ts";
import type { Variable } from "./template.ts";

/** Puts the values of the path and the query into the request. */
export type Bind = (request: Message, segments: readonly string[], query: string) => void;

/** What a name in the query may be: the way from the message to the field. */
type Target = readonly DescField[];

/** Prepares the parameters of a binding: which fields the path names, and which are left to the query. */
export function createBind(binding: Binding): Bind {
  const { method, template, body } = binding;
  const variables = template.variables.map((variable) => ({ variable, target: targetOf(method.input, variable) }));
  const inPath = new Set(variables.map(({ target }) => nameOf(target)));
  const inBody = typeof body === "object" ? body : undefined;
  const targets = body === "*" ? new Map<string, Target>() : queryTargets(method.input, inBody);

  return (request, segments, query) => {
    const message = reflect(method.input, request);
    for (const { variable, target } of variables) {
      const name = nameOf(target);
      const [parent, field] = resolve(message, target);
      const inRequest = parent.isSet(field) ? parent.get(field) : undefined;
      set(parent, field, [decodeVariable(segments, variable, name)], name);
      if (inRequest !== undefined && parent.get(field) !== inRequest) {
        throw badField(name, "is given twice: in the path and in the body");
      }
    }
    if (query !== "") readQuery(message, query, targets, inPath);
  };
}

function readQuery(
  message: ReflectMessage,
  query: string,
  targets: ReadonlyMap<string, Target>,
  inPath: ReadonlySet<string>,
): void {
  const values = new Map<Target, string[]>();
  for (const pair of query.split("&")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    const key = decodeQuery(equals === -1 ? pair : pair.slice(0, equals), "");
    const target = targets.get(key);
    if (target === undefined) throw badField(key, "is no query parameter of this operation");
    if (inPath.has(nameOf(target))) throw badField(key, "is given twice: in the path and in the query");
    const value = decodeQuery(equals === -1 ? "" : pair.slice(equals + 1), key);
    values.set(target, [...(values.get(target) ?? []), value]);
  }
  for (const [target, texts] of values) {
    const name = nameOf(target);
    const [parent, field] = resolve(message, target);
    if (texts.length > 1 && field.fieldKind !== "list") throw badField(name, "is given twice");
    set(parent, field, texts, name);
  }
}

/** Every name that a query may have: both spellings, nested fields by dots, no messages in lists. */
function queryTargets(desc: DescMessage, inBody: DescField | undefined): Map<string, Target> {
  const targets = new Map<string, Target>();
  collect(desc, [], [""], new Set());
  return targets;

  function collect(
    message: DescMessage,
    way: Target,
    prefixes: readonly string[],
    above: ReadonlySet<DescMessage>,
  ): void {
    for (const field of message.fields) {
      if (field === inBody && way.length === 0) continue;
      const names = prefixes.flatMap((prefix) =>
        [...new Set([field.name, field.jsonName])].map((name) => prefix + name),
      );
      const target = [...way, field];
      if (isValue(field)) for (const name of names) targets.set(name, target);
      else if (field.fieldKind === "message" && !above.has(field.message)) {
        collect(
          field.message,
          target,
          names.map((name) => `${name}.`),
          new Set([...above, message]),
        );
      }
    }
  }
}

/** Whether one text can be the field, or an item of it. */
function isValue(field: DescField): boolean {
  if (field.fieldKind === "map") return false;
  return field.message === undefined || hasTextForm(field.message);
}

/** The well-known types whose JSON is a single text, number or boolean. */
function hasTextForm({ typeName }: DescMessage): boolean {
  return (
    /^google\.protobuf\.(Timestamp|Duration|FieldMask|\w+Value)$/.test(typeName) && !/\.(List)?Value$/.test(typeName)
  );
}

function targetOf(desc: DescMessage, { fieldPath }: Variable): Target {
  let message: DescMessage | undefined = desc;
  return fieldPath.map((name) => {
    const field: DescField | undefined = message?.fields.find((candidate) => candidate.name === name);
    if (field === undefined) throw new Error(`${desc.typeName} has no field ${fieldPath.join(".")}`);
    message = field.message;
    return field;
  });
}

/** The field at the end of the way and the message that holds it, made where it is not there. */
function resolve(message: ReflectMessage, way: Target): [ReflectMessage, DescField] {
  let parent = message;
  for (const field of way.slice(0, -1)) {
    if (field.fieldKind !== "message") throw new Error(`${field.name} is no message`);
    if (!parent.isSet(field)) parent.set(field, reflect(field.message, create(field.message)));
    parent = parent.get(field);
  }
  return [parent, way.at(-1) as DescField];
}

/** Sets a field from texts: one, or the items of a list. */
function set(parent: ReflectMessage, field: DescField, texts: readonly string[], name: string): void {
  const values = texts.map((text) => jsonOf(field, text, name));
  const json = field.fieldKind === "list" ? values : (values[0] ?? null);
  try {
    parent.set(field, reflect(parent.desc, fromJson(parent.desc, { [field.name]: json })).get(field));
  } catch (error) {
    throw badField(name, reasonOf(field, error));
  }
}

/** A text as the JSON that the field's type reads. */
function jsonOf(field: DescField, text: string, name: string): JsonValue {
  const scalar = field.fieldKind === "list" || field.fieldKind === "scalar" ? field.scalar : wrappedScalar(field);
  if (field.enum !== undefined) return /^-?\d+$/.test(text) ? Number(text) : text;
  if (scalar === undefined || scalar === ScalarType.STRING || scalar === ScalarType.BYTES) return text;
  if (scalar === ScalarType.BOOL) {
    if (text !== "true" && text !== "false") throw badField(name, `must be true or false, not ${text}`);
    return text === "true";
  }
  // Number("") is 0, and Number(" 1 ") and Number("0x10") are numbers too.
  const decimal = scalar === ScalarType.DOUBLE || scalar === ScalarType.FLOAT;
  if (!(decimal ? /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/ : /^-?\d+$/).test(text)) {
    throw badField(name, `must be ${decimal ? "a number" : "a whole number"}, not ${text === "" ? "empty" : text}`);
  }
  return text;
}

function wrappedScalar(field: DescField): ScalarType | undefined {
  return field.message?.typeName.endsWith("Value") === true ? field.message.fields[0]?.scalar : undefined;
}

/** Single-segment variables are decoded whole, multi-segment ones all but %2F, which would be a new segment. */
function decodeVariable(segments: readonly string[], { start, end, multiple, open }: Variable, name: string): string {
  if (!multiple) return decode(segments[start] ?? "", name);
  const own = segments.slice(start, open ? undefined : end);
  return own
    .map((segment) =>
      segment
        .split(/%2f/i)
        .map((part) => decode(part, name))
        .join("%2F"),
    )
    .join("/");
}

function decodeQuery(text: string, name: string): string {
  return decode(text.replaceAll("+", " "), name);
}

function decode(text: string, name: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    throw badField(name, "is not percent-encoded UTF-8");
  }
}

function nameOf(target: Target): string {
  return target.map(({ name }) => name).join(".");
}

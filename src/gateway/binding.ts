import { METHODS } from "node:http";
import type { DescField, DescMessage, DescMethod, DescService } from "@bufbuild/protobuf";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { operation } from "#gen/gateway/v1/annotations_pb.js";
import { http } from "#gen/google/api/annotations_pb.js";
import type { HttpRule } from "#gen/google/api/http_pb.js";
import { isWellKnown } from "./fields.ts";
import { parseTemplate, type Template } from "./template.ts";

/** An HTTP method and path that calls an RPC. */
export interface Binding {
  readonly method: DescMethod;
  /** GET, POST, …; `*` matches any method that no other binding of the path has. */
  readonly httpMethod: string;
  /** The path template as the annotation has it. */
  readonly pattern: string;
  readonly template: Template;
  /** The part of the request that the HTTP body holds: nothing, all fields that are not in the path, or one field. */
  readonly body: undefined | "*" | DescField;
  /** The field of the response that the HTTP body holds; undefined: the whole response. */
  readonly responseBody: DescField | undefined;
  /** The field mask that is set from the keys of a PATCH body: absent fields do not change (RFC 7396). */
  readonly mask: DescField | undefined;
  /** The HTTP status of a success. */
  readonly status: number;
}

/**
 * Lists the bindings that a service's annotations declare. An RPC without an annotation has none.
 * @throws Error that names the RPC, when an annotation does not match its messages
 */
export function bindingsOf(service: DescService): Binding[] {
  return service.methods.flatMap((method) => {
    if (!hasOption(method, http)) return [];
    const rule = getOption(method, http);
    if (rule.additionalBindings.some(({ additionalBindings }) => additionalBindings.length > 0)) {
      throw annotationError(method, "additional_bindings must not be nested");
    }
    return [rule, ...rule.additionalBindings].map((each) => toBinding(method, each));
  });
}

/** Whether the HTTP response is a file instead of JSON: the response or its body field is a google.api.HttpBody. */
export function respondsWithFile({ method, responseBody }: Binding): boolean {
  const { typeName } = responseBody?.message ?? method.output;
  return typeName === "google.api.HttpBody" && (responseBody === undefined || responseBody.fieldKind === "message");
}

function toBinding(method: DescMethod, rule: HttpRule): Binding {
  const [httpMethod, pattern] = patternOf(method, rule);
  const template = parseTemplate(pattern);
  for (const { fieldPath } of template.variables) checkVariable(method, fieldPath);
  const names = template.variables.map(({ fieldPath }) => fieldPath.join("."));
  if (new Set(names).size < names.length) throw annotationError(method, `${pattern} must not name a field twice`);
  if (httpMethod === "GET" && rule.body !== "") throw annotationError(method, "GET must not have a body");
  return {
    method,
    httpMethod,
    pattern,
    template,
    body: rule.body === "" ? undefined : rule.body === "*" ? "*" : fieldOf(method, method.input, rule.body),
    responseBody: rule.responseBody === "" ? undefined : fieldOf(method, method.output, rule.responseBody),
    mask: maskOf(method, httpMethod, rule),
    status: statusOf(method),
  };
}

function patternOf(method: DescMethod, { pattern }: HttpRule): [httpMethod: string, path: string] {
  if (pattern.case === undefined) throw annotationError(method, "a method and a path must be set");
  if (pattern.case === "custom") {
    const { kind } = pattern.value;
    if (kind === "") throw annotationError(method, "a custom pattern must have a kind");
    if (kind !== "*" && !isServed(kind)) throw annotationError(method, `the method ${kind} is not supported by Node`);
    return [pattern.value.kind, pattern.value.path];
  }
  return [pattern.case.toUpperCase(), pattern.value];
}

/** Whether requests with the method can arrive. Node parses a fixed list; CONNECT does not address a resource. */
function isServed(httpMethod: string): boolean {
  return METHODS.includes(httpMethod) && httpMethod !== "CONNECT";
}

function maskOf({ input }: DescMethod, httpMethod: string, { body }: HttpRule): DescField | undefined {
  if (httpMethod !== "PATCH" || body === "" || body === "*") return undefined;
  return input.fields.find(({ message }) => message?.typeName === "google.protobuf.FieldMask");
}

function statusOf(method: DescMethod): number {
  const { status } = getOption(method, operation);
  if (status !== 0) return status;
  return method.output.fields.length === 0 ? 204 : 200;
}

function checkVariable(method: DescMethod, fieldPath: readonly string[]): void {
  let message: DescMessage | undefined = method.input;
  for (const [index, name] of fieldPath.entries()) {
    if (message === undefined) throw annotationError(method, `${fieldPath.join(".")} must go through messages only`);
    // The JSON of such a message may not be an object of fields: the body could not be compared with the path.
    if (isWellKnown(message)) {
      throw annotationError(method, `${fieldPath.join(".")} must not go through a well-known type`);
    }
    const field: DescField = fieldOf(method, message, name);
    const last = index === fieldPath.length - 1;
    if (last && field.fieldKind !== "scalar" && field.fieldKind !== "enum") {
      throw annotationError(method, `the path variable ${fieldPath.join(".")} must be a single value`);
    }
    message = field.fieldKind === "message" ? field.message : undefined;
  }
}

function fieldOf(method: DescMethod, message: DescMessage, name: string): DescField {
  const field = message.fields.find((candidate) => candidate.name === name);
  if (field === undefined) throw annotationError(method, `${message.typeName} has no field ${name}`);
  return field;
}

function annotationError(method: DescMethod, problem: string): Error {
  return new Error(`google.api.http of ${method.parent.typeName}.${method.name}: ${problem}`);
}

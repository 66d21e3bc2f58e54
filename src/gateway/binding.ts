import { METHODS } from "node:http";
import type { DescField, DescMessage, DescMethod, DescService } from "@bufbuild/protobuf";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { operation } from "#gen/gateway/v1/annotations_pb.js";
import { http } from "#gen/google/api/annotations_pb.js";
import type { HttpRule } from "#gen/google/api/http_pb.js";
import { isWellKnown } from "./fields.ts";
import { parseTemplate, type Template } from "./template.ts";

/** One HTTP method and path that calls an RPC. */
export interface Binding {
  readonly method: DescMethod;
  /** GET, POST, …; `*` is any that no other binding of the path names. */
  readonly httpMethod: string;
  /** As the annotation prints it. */
  readonly pattern: string;
  readonly template: Template;
  /** Which part of the request the body is: none, all that the path does not name, or one field. */
  readonly body: undefined | "*" | DescField;
  /** Which part of the response the body is; undefined: all of it. */
  readonly responseBody: DescField | undefined;
  /** The field mask that the keys of a PATCH body are: what JSON leaves out is not changed (RFC 7396). */
  readonly mask: DescField | undefined;
  /** The status of success. */
  readonly status: number;
}

/**
 * The bindings that a service's annotations declare; none for an RPC without an annotation.
 * @throws Error that names the RPC, for an annotation that fits no field of its messages
 */
export function bindingsOf(service: DescService): Binding[] {
  return service.methods.flatMap((method) => {
    if (!hasOption(method, http)) return [];
    const rule = getOption(method, http);
    if (rule.additionalBindings.some(({ additionalBindings }) => additionalBindings.length > 0)) {
      throw mistake(method, "additional_bindings within additional_bindings");
    }
    return [rule, ...rule.additionalBindings].map((one) => toBinding(method, one));
  });
}

/** Whether the answer is a file, instead of JSON: a google.api.HttpBody, or the field of that type that it is taken from. */
export function answersFile({ method, responseBody }: Binding): boolean {
  const { typeName } = responseBody?.message ?? method.output;
  return typeName === "google.api.HttpBody" && (responseBody === undefined || responseBody.fieldKind === "message");
}

function toBinding(method: DescMethod, rule: HttpRule): Binding {
  const [httpMethod, pattern] = patternOf(method, rule);
  const template = parseTemplate(pattern);
  for (const { fieldPath } of template.variables) checkVariable(method, fieldPath);
  const names = template.variables.map(({ fieldPath }) => fieldPath.join("."));
  if (new Set(names).size < names.length) throw mistake(method, `${pattern} names a field twice`);
  if (httpMethod === "GET" && rule.body !== "") throw mistake(method, "GET has no body");
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
  if (pattern.case === undefined) throw mistake(method, "no method and path");
  if (pattern.case === "custom") {
    const { kind } = pattern.value;
    if (kind === "") throw mistake(method, "a custom pattern without a kind");
    if (kind !== "*" && !isServed(kind)) throw mistake(method, `no HTTP server of Node reads the method ${kind}`);
    return [pattern.value.kind, pattern.value.path];
  }
  return [pattern.case.toUpperCase(), pattern.value];
}

/** Whether a request of the method can arrive: Node parses a fixed list, and CONNECT is no request to a resource. */
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
    if (message === undefined) throw mistake(method, `${fieldPath.join(".")} goes through a field that is no message`);
    // Such a message may have no object of fields in JSON: the body could neither repeat nor contradict the path.
    if (isWellKnown(message)) {
      throw mistake(method, `${fieldPath.join(".")} goes through a field whose JSON is no object of its fields`);
    }
    const field: DescField = fieldOf(method, message, name);
    const last = index === fieldPath.length - 1;
    if (last && field.fieldKind !== "scalar" && field.fieldKind !== "enum") {
      throw mistake(method, `the path variable ${fieldPath.join(".")} is no single value`);
    }
    message = field.fieldKind === "message" ? field.message : undefined;
  }
}

function fieldOf(method: DescMethod, message: DescMessage, name: string): DescField {
  const field = message.fields.find((candidate) => candidate.name === name);
  if (field === undefined) throw mistake(method, `${message.typeName} has no field ${name}`);
  return field;
}

function mistake(method: DescMethod, what: string): Error {
  return new Error(`google.api.http of ${method.parent.typeName}.${method.name}: ${what}`);
}

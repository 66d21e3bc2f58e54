import { Code, ConnectError } from "@connectrpc/connect";
import { invalidRequest } from "./errors.ts";

/**
 * Converts an error of Connect or protobuf-es into one that callers and logs may see. An unreadable message becomes
 * INVALID_ARGUMENT, without the value: it may be a mistyped password.
 */
export function fromLibrary(error: ConnectError): ConnectError {
  const { rawMessage } = error;
  const unreadable = /^cannot decode (?:(field|message|oneof|enum) )?([\w.]+) from JSON:? (.*)$/s.exec(rawMessage);
  if (unreadable !== null) return unreadableJson(rawMessage, unreadable);
  // Connect reports these as server faults.
  if (!/^(parse binary: |received compressed envelope|decompression failed$)/.test(rawMessage)) return error;
  return new ConnectError(rawMessage, Code.InvalidArgument, error.metadata, undefined, error.cause);
}

function unreadableJson(text: string, [, kind, name = "", problem = ""]: RegExpExecArray): ConnectError {
  const unknown = /^key "(.*)" is unknown$/s.exec(problem)?.[1];
  if (unknown !== undefined)
    return invalidRequest([{ field: unknown, description: "must be a field of this message" }]);
  if (kind === "enum") return invalidRequest([{ field: "", description: `must be a value of ${name}` }]);
  const field = kind === "message" || kind === undefined ? "" : name.slice(name.lastIndexOf(".") + 1);
  const description = field === "" ? `the message must be the JSON of a ${name}` : ruleOf(new Error(text));
  return invalidRequest([{ field, description }]);
}

/** Returns the rule that an error of protobuf-es states, without the field and the value. */
export function ruleOf(error: unknown): string {
  const message = error instanceof Error ? error.message : "";
  const text = message.replace(/^cannot decode .*? from JSON:? /, "").replace(/^(list item|map entry) \S+: /, "");
  const expected = /^expected (\w+)(?: \((\w+)\))?, got /.exec(text);
  if (expected !== null) return `must be of the type ${expected[2] ?? expected[1]}`;
  return valueFree.test(text) ? text : "must be valid";
}

/** Texts of protobuf-es that contain no value. */
const valueFree =
  /^(must |unexpected |invalid RFC 3339 string|path names must|maximum recursion depth|oneof set |set multiple)/;

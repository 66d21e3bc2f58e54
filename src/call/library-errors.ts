import { Code, ConnectError } from "@connectrpc/connect";
import { invalidRequest } from "./errors.ts";

/**
 * An error that Connect or protobuf-es has made, as a caller and the log may read it: what cannot be read is the caller's
 * mistake, and its value is left out, since it may be a mistyped password.
 */
export function fromLibrary(error: ConnectError): ConnectError {
  const { rawMessage } = error;
  const unread = /^cannot decode (?:(field|message|oneof|enum) )?([\w.]+) from JSON:? (.*)$/s.exec(rawMessage);
  if (unread !== null) return unreadJson(rawMessage, unread);
  // Connect takes these for faults of the server.
  if (!/^(parse binary: |received compressed envelope|decompression failed$)/.test(rawMessage)) return error;
  return new ConnectError(rawMessage, Code.InvalidArgument, error.metadata, undefined, error.cause);
}

function unreadJson(text: string, [, kind, name = "", what = ""]: RegExpExecArray): ConnectError {
  const unknown = /^key "(.*)" is unknown$/s.exec(what)?.[1];
  if (unknown !== undefined) return invalidRequest([{ field: unknown, description: "is no field of this message" }]);
  if (kind === "enum") return invalidRequest([{ field: "", description: `must be a value of ${name}` }]);
  const field = kind === "message" || kind === undefined ? "" : name.slice(name.lastIndexOf(".") + 1);
  const description = field === "" ? `the message is no JSON of ${name}` : ruleOf(new Error(text));
  return invalidRequest([{ field, description }]);
}

/** The rule that protobuf-es names in an error, without the field and without the value. */
export function ruleOf(error: unknown): string {
  const message = error instanceof Error ? error.message : "";
  const text = message.replace(/^cannot decode .*? from JSON:? /, "").replace(/^(list item|map entry) \S+: /, "");
  const expected = /^expected (\w+)(?: \((\w+)\))?, got /.exec(text);
  if (expected !== null) return `must be of the type ${expected[2] ?? expected[1]}`;
  return valueFree.test(text) ? text : "is not valid";
}

/** The texts of protobuf-es that hold no value. */
const valueFree =
  /^(must |unexpected |invalid RFC 3339 string|path names must|maximum recursion depth|oneof set |set multiple)/;

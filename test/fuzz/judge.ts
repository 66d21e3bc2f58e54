import { readFileSync } from "node:fs";
import { type DescMessage, fromBinary, fromJsonString, toJsonString } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { endStreamFromJson, errorFromJsonBytes } from "@connectrpc/connect/protocol-connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import { trailerParse } from "@connectrpc/connect/protocol-grpc-web";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { parse } from "yaml";
import { BadRequestSchema, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import type { Got } from "./callers.ts";
import type { Sent } from "./requests.ts";

export interface Outcome {
  /** A status or code, or the reason why there is none. */
  readonly status: string;
  readonly kind: "ok" | "refused" | "unavailable" | "reset";
  /** The violated rule. */
  readonly fault?: string | undefined;
  /** The messages of the answer as JSON. */
  readonly json?: string;
}

/** Checks the rules that every answer must keep. */
export function judge(sent: Sent, got: Got): Outcome {
  if (got.status === 0) {
    // The server ends a stream or a connection that violates the protocol, with an error code.
    // Over HTTP/1.1 the server sends an error response.
    if (got.lost !== undefined) return { status: got.lost, kind: "reset", fault: `no answer: ${got.lost}` };
    const isFault = got.rstCode === 2;
    return { status: `reset ${got.rstCode}`, kind: "reset", fault: isFault ? "reset with INTERNAL_ERROR" : undefined };
  }
  try {
    if (sent.transport.startsWith("gateway")) return judgeGateway(sent, got);
    const type = String(got.headers["content-type"] ?? "");
    if (type.startsWith("application/grpc")) return judgeGrpc(sent, got, type.includes("web"));
    return type.startsWith("application/connect+") ? judgeConnectStream(sent, got) : judgeConnect(sent, got);
  } catch (error) {
    const text = got.body.toString("latin1").slice(0, 200);
    return {
      status: String(got.status),
      kind: "refused",
      fault: `the answer cannot be read: ${String(error)} ${text}`,
    };
  }
}

function judgeGateway(sent: Sent, { status, headers, body }: Got): Outcome {
  const text = body.toString();
  if (status === 503) return { status: "503", kind: "unavailable", fault: schemaFault(sent, status, headers, text) };
  const fault = status >= 500 ? text.slice(0, 300) : schemaFault(sent, status, headers, text);
  return { status: String(status), kind: status < 400 ? "ok" : "refused", fault, json: status < 400 ? text : "" };
}

function judgeConnect({ method }: Sent, { status, headers, body }: Got): Outcome {
  if (status >= 400) return refused(String(status), errorOf(body, status));
  const isJson = String(headers["content-type"]).startsWith("application/json");
  const json = isJson ? readJson(method.output, body.toString()) : readBinary(method.output, body);
  return { status: String(status), kind: "ok", json };
}

/** Returns the error of a Connect call. A plain HTTP refusal, such as 415, has none. */
function errorOf(body: Buffer, status: number): ConnectError | undefined {
  if (!body.toString().startsWith('{"code"')) {
    // HTTP/1.1 does not support bidirectional streams.
    if (status >= 500 && status !== 505) throw new Error(`${status} without an error`);
    return undefined;
  }
  return errorFromJsonBytes(body, undefined, new ConnectError("unreadable", Code.Internal));
}

function judgeConnectStream({ method }: Sent, { headers, body }: Got): Outcome {
  const isJson = String(headers["content-type"]).includes("json");
  const { messages, last } = split(body, 2);
  const json = messages.map((data) =>
    isJson ? readJson(method.output, data.toString()) : readBinary(method.output, data),
  );
  if (last === undefined) return { status: "cut", kind: "reset", fault: "a stream has no end" };
  const { error } = endStreamFromJson(last);
  const isOk = error === undefined || isOverdue(error, messages);
  return isOk ? { status: "ok", kind: "ok", json: json.join() } : refused(Code[error.code] ?? "", error);
}

function judgeGrpc({ method }: Sent, { headers, trailers, body }: Got, isWeb: boolean): Outcome {
  const { messages, last } = split(body, isWeb ? 0x80 : undefined);
  const json = messages.map((data) => readBinary(method.output, data)).join();
  const trailer = last === undefined ? toHeaders({ ...headers, ...trailers }) : trailerParse(last);
  if (!trailer.has("grpc-status")) return { status: "none", kind: "reset", fault: "an answer has no status" };
  const error = findTrailerError(trailer);
  const isOk = error === undefined || isOverdue(error, messages);
  return isOk ? { status: "ok", kind: "ok", json } : refused(Code[error.code] ?? "", error);
}

/** Whether a stream has answered until its deadline: a watch has no other end. */
function isOverdue({ code }: ConnectError, messages: readonly Buffer[]): boolean {
  return code === Code.DeadlineExceeded && messages.length > 0;
}

function toHeaders(received: Record<string, unknown>): Headers {
  const plain = Object.entries(received).filter(([name]) => !name.startsWith(":"));
  return new Headers(plain.map(([name, value]): [string, string] => [name, String(value)]));
}

const faultCodes: ReadonlySet<Code> = new Set([Code.Internal, Code.Unknown, Code.DataLoss]);

function refused(status: string, error: ConnectError | undefined): Outcome {
  if (error === undefined) return { status, kind: "refused" };
  if (error.code === Code.Unavailable) return { status, kind: "unavailable" };
  if (faultCodes.has(error.code)) return { status, kind: "refused", fault: error.message };
  const [info] = error.findDetails(ErrorInfoSchema);
  if (info === undefined) return { status, kind: "refused", fault: `an error without a reason: ${error.message}` };
  const fields = error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations);
  const isNamed = info.reason !== "INVALID_REQUEST" || (fields.length > 0 && fields.every(isNaming));
  return { status, kind: "refused", fault: isNamed ? undefined : `no field is named: ${error.message}` };
}

/** Errors of a whole body, as opposed to one of its fields. */
const wholeBody = /^(the body |and \d+ more$|must be an object$|must not nest deeper|the message )/;

function isNaming({ field, description }: { readonly field: string; readonly description: string }): boolean {
  return description !== "" && (field !== "" || wholeBody.test(description));
}

function readJson(desc: DescMessage, text: string): string {
  fromJsonString(desc, text);
  return text;
}

function readBinary(desc: DescMessage, bytes: Uint8Array): string {
  const message = fromBinary(desc, bytes);
  // A field that the type of the answer does not have is a fault.
  if ((message.$unknown?.length ?? 0) > 0) throw new Error("unknown fields");
  return toJsonString(desc, message, { useProtoFieldName: true });
}

/** Returns the messages of a body of envelopes, and the end-of-stream message. */
function split(body: Buffer, lastFlag: number | undefined): { messages: Buffer[]; last: Buffer | undefined } {
  const messages: Buffer[] = [];
  let last: Buffer | undefined;
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32BE(at + 1);
    const data = body.subarray(at + 5, at + 5 + length);
    if (data.length < length) throw new Error("an envelope is cut");
    if (body[at] === lastFlag) last = data;
    else messages.push(data);
    at += 5 + length;
  }
  return { messages, last };
}

const document = parse(readFileSync("gen/openapi.yaml", "utf8"));
const ajv = new Ajv2020({ strict: false, validateFormats: true });
(addFormats as unknown as (instance: Ajv2020) => void)(ajv);
// ISO 8601 has fractions of seconds, and so has the contract's own example; the format of JSON Schema has none.
ajv.addFormat("duration", /^P(?=\w)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$/);
ajv.addSchema(document, "openapi");

/** Returns why an answer of the gateway violates the OpenAPI document, or undefined. */
function schemaFault(sent: Sent, status: number, received: Got["headers"], text: string): string | undefined {
  const { template = "", headers, isAlias = false } = sent;
  // Another binding may have other responses, which the document does not describe. Its errors are the same.
  if (isAlias && status < 400) return undefined;
  const type = String(received["content-type"] ?? "");
  const verb = String(headers[":method"]).toLowerCase();
  const responses = document.paths[template]?.[verb]?.responses;
  // A path whose variables have several segments, or none, matches no operation: its 404 is an ordinary error.
  const isOperation = responses?.[status] !== undefined && !(status === 404 && text.includes('"NO_SUCH_PATH"'));
  const key = isOperation ? String(status) : "default";
  const content = responses?.[key]?.content;
  if (responses?.[key] === undefined) return `no answer of ${verb} ${template} ${status} in the document`;
  // A file may be empty.
  if (text === "") {
    const isFile = Object.keys(content ?? {}).some((media) => media !== "application/json");
    return content === undefined || isFile || status === 304 ? undefined : `${status} has no body`;
  }
  const media = type.replace(/;.*/, "");
  const isListed = Object.keys(content ?? {}).some((mediaType) => mediaType === media || mediaType === "*/*");
  if (!isListed) return `${status} of ${verb} ${template} has the type ${type}`;
  if (media !== "application/json" || content[media]?.schema === undefined) return undefined;
  // A stored file is returned as it came, and need not be the JSON that its type names.
  if (sent.method.name === "ReadData" && status === 200) return undefined;
  const pointer = ["paths", template, verb, "responses", key, "content", media, "schema"];
  const escaped = pointer.map((part) => encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1")));
  const answer: unknown = JSON.parse(text);
  const validate = ajv.getSchema(`openapi#/${escaped.join("/")}`);
  if (validate === undefined) return "the schema cannot be read";
  if (!validate(answer)) return `${status} ${text.slice(0, 200)} ${ajv.errorsText(validate.errors)}`;
  if (status !== 400) return undefined;
  const { validations = [], reason } = answer as {
    validations?: { field: string; message: string }[];
    reason?: string;
  };
  const isNamed =
    validations.length > 0 && validations.every(({ field, message }) => isNaming({ field, description: message }));
  return reason === "INVALID_REQUEST" && !isNamed ? `no field is named: ${text.slice(0, 300)}` : undefined;
}

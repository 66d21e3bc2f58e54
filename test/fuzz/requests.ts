import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { create, type DescMethod, fromJsonString, getOption, toBinary } from "@bufbuild/protobuf";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { http } from "#gen/google/api/annotations_pb.js";
import type { Dice } from "./dice.ts";
import type { Known } from "./known.ts";
import { breakBytes, type Choice, writeJson, writeOne } from "./values.ts";

/** The ways to call a method: the protocol, then HTTP/1.1 where it is not HTTP/2. */
export const transports = [
  "gateway",
  "gateway, HTTP/1.1",
  "Connect JSON",
  "Connect JSON, HTTP/1.1",
  "Connect binary",
  "Connect binary, HTTP/1.1",
  "gRPC",
  "gRPC, compressed",
  "gRPC-Web",
  "gRPC-Web, HTTP/1.1",
] as const;

export type Transport = (typeof transports)[number];

/** A request, as HTTP/2 writes its headers. */
export interface Sent {
  readonly transport: Transport;
  readonly method: DescMethod;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
  /** Whether the end of the body is never sent. */
  readonly isCut: boolean;
  /** The path of the operation in the OpenAPI document. Set for gateway calls only. */
  readonly template?: string;
  /** Whether the call uses another path, which the OpenAPI document does not have. */
  readonly isAlias?: boolean;
}

const bomb = gzipSync(Buffer.alloc(20_000_000, "0"));
const fastBrotli = { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } };
const brotliBomb = brotliCompressSync(Buffer.alloc(20_000_000, "0"));

export function makeRequest(dice: Dice, transport: Transport, method: DescMethod, known: Known): Sent {
  // Half of all calls are valid by the .proto.
  const oddness = dice.pick([0, 0, 0, 0.05, 0.1, 0.3]);
  const choice: Choice = { dice, oddness, known: (field) => known.values(field) };
  const isBroken = oddness > 0;
  const made = transport.startsWith("gateway")
    ? toGateway(choice, method)
    : toProtocol(choice, transport.replace(", HTTP/1.1", ""), method);
  const token = dice.pick(known.tokens(method.name));
  const headers = { ...made.headers, ...(token !== "" && { authorization: `Bearer ${token}` }) };
  // Streams may stall.
  const canBeCut = isBroken && made.body.length > 0 && method.methodKind === "unary";
  return { transport, method, ...made, headers, isCut: canBeCut && dice.chance(0.02) };
}

type Made = Pick<Sent, "headers" | "body" | "template" | "isAlias">;

function toProtocol(choice: Choice, protocol: string, method: DescMethod): Made {
  const { dice, oddness } = choice;
  const isBroken = oddness > 0;
  const isUnaryConnect = protocol.startsWith("Connect") && method.methodKind === "unary";
  const messages = Array.from({ length: method.methodKind === "unary" ? 1 : dice.pick([1, 1, 2]) }, () => {
    const text = writeJson(choice, method.input);
    const message = protocol === "Connect JSON" ? Buffer.from(text) : toBytes(method, text);
    return isBroken && dice.chance(0.15) ? breakBytes(dice, message) : message;
  });
  const encoding = isUnaryConnect
    ? "content-encoding"
    : protocol.startsWith("Connect")
      ? "connect-content-encoding"
      : "grpc-encoding";
  const compressed: Record<string, string> = {};
  let bodies = messages;
  if (protocol === "gRPC, compressed" || dice.chance(0.1)) {
    const name = isBroken && dice.chance(0.1) ? dice.pick(["rot13", "identity"]) : dice.pick(["gzip", "br"]);
    compressed[encoding] = name;
    bodies = messages.map((message) => compress(dice, name, message, isBroken));
  }
  const flag = encoding in compressed ? 1 : 0;
  const envelopes = bodies.map((body) => encodeEnvelope(isBroken && dice.chance(0.05) ? dice.below(256) : flag, body));
  let body = isUnaryConnect ? (bodies[0] ?? Buffer.alloc(0)) : Buffer.concat(envelopes);
  if (isBroken && !isUnaryConnect && dice.chance(0.1)) body = breakBytes(dice, body);
  // A watch goes on until its caller ends it.
  const isEndless = method.name === "WatchQuotaUsage";
  const type = isBroken && dice.chance(0.03) ? oddType(dice) : typeOf(protocol, isUnaryConnect);
  const headers = {
    ":method": "POST",
    ":path": `/${method.parent.typeName}/${method.name}`,
    "content-type": type,
    ...(protocol.startsWith("gRPC") && { te: "trailers" }),
    ...(protocol.startsWith("gRPC") &&
      dice.chance(0.05) && { "grpc-timeout": dice.pick(["1n", "99999999H", "2S", "x"]) }),
    ...(isEndless && protocol.startsWith("Connect") && { "connect-timeout-ms": "500" }),
    ...(isEndless && protocol.startsWith("gRPC") && { "grpc-timeout": "500m" }),
    ...compressed,
  };
  return { headers, body };
}

function compress(dice: Dice, name: string, message: Buffer, isBroken: boolean): Buffer {
  if (isBroken && dice.chance(0.05)) return name === "br" ? brotliBomb : bomb;
  if (isBroken && dice.chance(0.1)) return message;
  const packed = name === "br" ? brotliCompressSync(message, fastBrotli) : gzipSync(message);
  return isBroken && dice.chance(0.1) ? breakBytes(dice, packed) : packed;
}

function oddType(dice: Dice): string {
  return dice.pick(["text/plain", "application/xml", "application/grpc+x", "application/connect+json", ""]);
}

function typeOf(protocol: string, isUnary: boolean): string {
  switch (protocol) {
    case "Connect JSON":
      return isUnary ? "application/json" : "application/connect+json";
    case "Connect binary":
      return isUnary ? "application/proto" : "application/connect+proto";
    case "gRPC-Web":
      return "application/grpc-web+proto";
    default:
      return "application/grpc";
  }
}

/** Returns the message in binary, or no bytes when it is not a message. */
function toBytes({ input }: DescMethod, text: string): Buffer {
  try {
    return Buffer.from(toBinary(input, fromJsonString(input, text, { ignoreUnknownFields: true })));
  } catch {
    return Buffer.from(toBinary(input, create(input)));
  }
}

const oddSegments = ["2026-11-25", "x%2Fy", "%00", "%ff", "a:b", "..", "%F0%9F%98%80", "a".repeat(300)];

function toGateway(choice: Choice, method: DescMethod): Made {
  const { dice, oddness } = choice;
  const isBroken = oddness > 0;
  const rules = [getOption(method, http), ...getOption(method, http).additionalBindings];
  const rule = dice.pick(rules);
  const { case: verb, value } = rule.pattern;
  const template = typeof value === "string" ? value : "/";
  const inPath = new Set<string>();
  let path = template.replace(/\{([^}=]*)[^}]*\}/g, (_all, name: string) => {
    inPath.add(name);
    const field = method.input.fields.find((candidate) => candidate.name === name);
    if (field === undefined || dice.chance(oddness)) return dice.pick(oddSegments);
    return encodeURIComponent(textOfJson(writeOne(choice, field)));
  });
  const bodyField = method.input.fields.find(({ name }) => name === rule.body);
  if (rule.body !== "*") {
    const parameterFields = method.input.fields.filter(({ name }) => name !== rule.body && !inPath.has(name));
    const query = parameterFields
      .filter(({ fieldKind, message }) => fieldKind !== "map" && (message === undefined || dice.chance(0.5)))
      .filter(({ name }) => dice.chance(name === "username" || name === "method_group" ? 0.9 : 0.25))
      .map((field) => `${field.name}=${encodeURIComponent(textOfJson(writeOne(choice, field)))}`);
    if (query.length > 0) path += `?${query.join("&")}`;
  }
  let body: Buffer = Buffer.alloc(0);
  if (rule.body === "*") body = Buffer.from(writeJson(choice, method.input, inPath));
  else if (bodyField?.message?.typeName === "google.api.HttpBody") body = Buffer.from('{"some":["data"]}');
  else if (bodyField?.message !== undefined) body = Buffer.from(writeJson(choice, bodyField.message));
  if (isBroken && dice.chance(rule.body === "" ? 0.02 : 0.15)) body = breakBytes(dice, body);
  const headers: Record<string, string> = { ":method": (verb ?? "get").toUpperCase(), ":path": path };
  if (isBroken && dice.chance(0.03)) headers["content-encoding"] = dice.pick(["rot13", "identity", "gzip"]);
  else if (body.length > 0 && dice.chance(0.05)) {
    headers["content-encoding"] = "gzip";
    body = compress(dice, "gzip", body, isBroken);
  }
  if (body.length > 0) headers["content-type"] = isBroken && dice.chance(0.03) ? "text/plain" : "application/json";
  // The document has the first binding. The other bindings have the same answers.
  const { value: documented } = (rules[0] ?? rule).pattern;
  return {
    headers,
    body,
    template: String(documented).replace(/=[^}]*\}/g, "}"),
    isAlias: documented !== value,
  };
}

/** Returns a value as text for a path or a query: a string as it is, everything else as JSON. */
function textOfJson(json: string): string {
  try {
    const value: unknown = JSON.parse(json);
    // encodeURIComponent throws for a lone surrogate.
    return typeof value === "string" ? value.replace(/\p{Surrogate}/gu, "\ufffd") : json;
  } catch {
    return json;
  }
}

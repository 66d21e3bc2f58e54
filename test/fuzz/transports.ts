import { type ClientHttp2Session, connect } from "node:http2";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { create, type DescMethod, fromJsonString, getOption, toBinary } from "@bufbuild/protobuf";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { http } from "#gen/google/api/annotations_pb.js";
import { breakBytes, type Dice, writeJson } from "./values.ts";

/** A request of HTTP/2, and what it is answered with. */
export interface Sent {
  readonly transport: string;
  readonly method: DescMethod;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
  /** Of the gateway: the path as OpenAPI has it. */
  readonly template?: string;
}

export interface Got {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly trailers: Record<string, unknown>;
  readonly body: Buffer;
  /** How the stream was reset; 0 where it was not. */
  readonly rstCode: number;
}

export const transports = ["gateway", "Connect JSON", "Connect binary", "gRPC", "gRPC by Connect", "gRPC-Web"] as const;

const bomb = gzipSync(Buffer.alloc(20_000_000, "0"));
const brotliBomb = brotliCompressSync(Buffer.alloc(20_000_000, "0"));

export function makeRequest(dice: Dice, transport: (typeof transports)[number], method: DescMethod): Sent {
  const oddness = dice.pick([0, 0.05, 0.3]);
  const text = writeJson(dice, method.input, oddness);
  if (transport === "gateway") return toGateway(dice, method, text);
  const isJson = transport === "Connect JSON";
  let message: Buffer = isJson ? Buffer.from(text) : toBytes(method, text);
  if (dice.chance(0.15)) message = breakBytes(dice, message);
  const isUnaryConnect = transport.startsWith("Connect") && method.methodKind === "unary";
  const headers = {
    ":method": "POST",
    ":path": `/${method.parent.typeName}/${method.name}`,
    ...typeOf(dice, transport, isUnaryConnect),
  };
  let body = isUnaryConnect ? message : encodeEnvelope(dice.chance(0.05) ? dice.below(256) : 0, message);
  const encoding = isUnaryConnect
    ? "content-encoding"
    : transport.startsWith("Connect")
      ? "connect-content-encoding"
      : "grpc-encoding";
  const compressed: Record<string, string> = {};
  if (transport === "gRPC by Connect" || dice.chance(0.1)) {
    const name = dice.chance(0.9) ? dice.pick(["gzip", "br"]) : dice.pick(["rot13", "identity"]);
    compressed[encoding] = name;
    const pack = name === "br" ? brotliCompressSync : gzipSync;
    const packed = dice.chance(0.05)
      ? name === "br"
        ? brotliBomb
        : bomb
      : dice.chance(0.05)
        ? message
        : pack(message);
    body = isUnaryConnect ? packed : encodeEnvelope(1, packed);
  }
  if (!isUnaryConnect && dice.chance(0.1)) body = Buffer.concat([body, body]);
  if (!isUnaryConnect && dice.chance(0.1)) body = breakBytes(dice, Buffer.from(body));
  return { transport, method, headers: { ...headers, ...compressed }, body: Buffer.from(body) };
}

function typeOf(dice: Dice, transport: string, isUnary: boolean): Record<string, string> {
  if (dice.chance(0.03))
    return { "content-type": dice.pick(["text/plain", "application/xml", "application/grpc+x", ""]) };
  switch (transport) {
    case "Connect JSON":
      return { "content-type": isUnary ? "application/json" : "application/connect+json" };
    case "Connect binary":
      return { "content-type": isUnary ? "application/proto" : "application/connect+proto" };
    case "gRPC-Web":
      return { "content-type": "application/grpc-web+proto" };
    default:
      return { "content-type": "application/grpc", te: "trailers" };
  }
}

/** The message in binary; of what is no message, nothing. */
function toBytes({ input }: DescMethod, text: string): Buffer {
  try {
    return Buffer.from(toBinary(input, fromJsonString(input, text, { ignoreUnknownFields: true })));
  } catch {
    return Buffer.from(toBinary(input, create(input)));
  }
}

function toGateway(dice: Dice, method: DescMethod, text: string): Sent {
  const rule = getOption(method, http);
  const { case: verb, value } = rule.pattern;
  const template = typeof value === "string" ? value : "/";
  const segments = [
    "fuzz_a",
    "fuzz_b",
    "2026-11-25",
    "x%2Fy",
    "%00",
    "%ff",
    "a:b",
    "..",
    "00000000-0000-4000-8000-000000000000",
  ];
  let path = template.replace(/\{[^}]*\}/g, () => dice.pick(segments));
  const query = method.input.fields
    .filter(() => dice.chance(0.2))
    .map(({ name }) => `${name}=${dice.pick(["1", "a", "", "-1", "%00", "9e9", "fuzz_a"])}`);
  if (rule.body !== "*" && query.length > 0) path += `?${query.join("&")}`;
  const hasBody = rule.body !== "";
  let body: Buffer = Buffer.from(hasBody ? text : "");
  if (hasBody && rule.body !== "*") {
    const field = method.input.fields.find(({ name }) => name === rule.body);
    if (field?.message !== undefined) body = Buffer.from(writeJson(dice, field.message, 0.1));
  }
  if (dice.chance(hasBody ? 0.15 : 0.02)) body = breakBytes(dice, body);
  const type = dice.chance(0.03) ? "text/plain" : "application/json";
  const headers: Record<string, string> = { ":method": (verb ?? "get").toUpperCase(), ":path": path };
  if (body.length > 0) headers["content-type"] = type;
  if (dice.chance(0.03)) headers["content-encoding"] = dice.pick(["gzip", "rot13", "identity"]);
  return { transport: "gateway", method, headers, body, template: template.replace(/=[^}]*\}/g, "}") };
}

export interface Caller {
  send(sent: Pick<Sent, "headers" | "body">, token: string): Promise<Got>;
  close(): void;
}

const timeoutMs = 20_000;

/** Opens another connection when the server has ended the last one. */
export function openCaller(url: string): Caller {
  let session: ClientHttp2Session | undefined;
  return {
    send({ headers, body }, token) {
      if (session === undefined || session.closed || session.destroyed) {
        session = connect(url);
        session.on("error", () => undefined);
      }
      const stream = session.request(
        { authorization: `Bearer ${token}`, ...headers },
        { endStream: body.length === 0 },
      );
      return new Promise((done, fail) => {
        const got = { status: 0, headers: {}, trailers: {} };
        const chunks: Buffer[] = [];
        const timer = setTimeout(() => fail(new Error("no answer in time")), timeoutMs);
        stream.on("response", (received) =>
          Object.assign(got, { status: received[":status"] ?? 0, headers: received }),
        );
        stream.on("trailers", (received) => Object.assign(got, { trailers: received }));
        stream.on("data", (chunk: Buffer) => chunks.push(chunk));
        stream.on("error", () => undefined);
        const settle = () => {
          clearTimeout(timer);
          done({ ...got, body: Buffer.concat(chunks), rstCode: stream.rstCode ?? 0 });
        };
        // A stream whose body is no longer wanted ends, and Node's client does not close it.
        stream.once("end", () => setImmediate(settle)).once("close", settle);
        if (body.length > 0) stream.end(body);
      });
    },
    close: () => session?.destroy(),
  };
}

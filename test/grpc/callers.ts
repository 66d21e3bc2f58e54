import { once } from "node:events";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type OutgoingHttpHeaders,
} from "node:http2";
import {
  createRegistry,
  type DescMethodUnary,
  fromBinary,
  fromJson,
  type JsonValue,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Client, credentials, Metadata, type StatusObject } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";
import { serviceOf } from "../gateway/fixture.ts";

type HeaderMap = Record<string, string | string[]>;

/** The outcome of a call as its caller sees it. */
export interface Outcome {
  readonly code: number;
  readonly message: string;
  readonly details: readonly JsonValue[];
  readonly output?: JsonValue;
  readonly headers: HeaderMap;
  readonly trailers: HeaderMap;
}

export interface CallOptions {
  readonly method?: DescMethodUnary;
  readonly metadata?: Readonly<Record<string, string | readonly string[]>>;
  readonly signal?: AbortSignal;
}

/** A client on one connection. */
export interface Caller {
  readonly call: (request: JsonValue, options?: CallOptions) => Promise<Outcome>;
  readonly close: () => void;
}

const single = serviceOf("EchoService").method.single as DescMethodUnary;
const detailTypes = createRegistry(BadRequestSchema, ErrorInfoSchema, RetryInfoSchema);

export const callers = { "connect-node": openConnectNode, "grpc-js": openGrpcJs, "node:http2": openRaw };

function openConnectNode(url: string): Caller {
  const sessionManager = new Http2SessionManager(url);
  const transport = createGrpcTransport({ baseUrl: url, sessionManager });
  return {
    async call(request, { method = single, metadata = {}, signal } = {}) {
      const header = new Headers();
      for (const [name, values] of Object.entries(metadata))
        for (const value of [values].flat()) header.append(name, value);
      try {
        const response = await transport.unary(method, signal, undefined, header, fromJson(method.input, request));
        const metadataMaps = { headers: toHeaderMap(response.header), trailers: toHeaderMap(response.trailer) };
        return { code: 0, message: "", details: [], output: toJson(method.output, response.message), ...metadataMaps };
      } catch (error) {
        const { code, rawMessage, metadata: trailer } = ConnectError.from(error);
        const trailers = toHeaderMap(trailer);
        return { code, message: rawMessage, details: detailsOf(trailers), headers: {}, trailers };
      }
    },
    close: () => sessionManager.abort(),
  };
}

function openGrpcJs(url: string): Caller {
  const client = new Client(url.replace("http://", ""), credentials.createInsecure());
  return {
    call: (request, { method = single, metadata: given = {}, signal } = {}) =>
      new Promise((done) => {
        const metadata = new Metadata();
        for (const [name, values] of Object.entries(given)) {
          for (const value of [values].flat())
            metadata.add(name, name.endsWith("-bin") ? Buffer.from(value, "base64") : value);
        }
        let output: JsonValue | undefined;
        let headers: HeaderMap = {};
        const call = client.makeUnaryRequest(
          `/${method.parent.typeName}/${method.name}`,
          (value: JsonValue) => Buffer.from(toBinary(method.input, fromJson(method.input, value))),
          (bytes) => toJson(method.output, fromBinary(method.output, bytes)),
          request,
          metadata,
          (_error, value) => (output = value),
        );
        call.on("metadata", (received: Metadata) => (headers = fromGrpcJs(received)));
        call.on("status", ({ code, details, metadata: received }: StatusObject) => {
          const trailers = fromGrpcJs(received);
          // grpc-js does not decode characters that are reserved in URIs.
          const message = details.replaceAll("%3A", ":");
          const result = { code, message, details: detailsOf(trailers), headers, trailers };
          // grpc-js calls the callback after the status event.
          setImmediate(() => done(output === undefined ? result : { ...result, output }));
        });
        signal?.addEventListener("abort", () => call.cancel());
      }),
    close: () => client.close(),
  };
}

function fromGrpcJs(metadata: Metadata): HeaderMap {
  return toHeaderMap(
    Object.entries(metadata.toHttp2Headers()).map(([name, value]) => [name, value as string | string[]]),
  );
}

/** A client that writes its own frames. */
export interface RawCaller extends Caller {
  readonly open: (headers?: OutgoingHttpHeaders) => ClientHttp2Stream;
  /** Sends each chunk in its own DATA frame and returns the outcome. With `end` false the stream stays open. */
  readonly send: (frames: readonly Uint8Array[], headers?: OutgoingHttpHeaders, end?: boolean) => Promise<RawOutcome>;
}

export interface RawOutcome extends Outcome {
  readonly status: number;
  readonly body: string;
}

export function openRaw(url: string, settings: { initialWindowSize?: number } = {}): RawCaller {
  const session: ClientHttp2Session = connect(url, { settings });
  const open: RawCaller["open"] = (headers = {}) => session.request({ ...callHeaders, ...headers });
  return {
    open,
    async send(frames, headers, end = true) {
      const stream = open(headers);
      const outcome = readRaw(stream);
      for (const frame of frames) await new Promise((done) => stream.write(frame, done));
      if (end) stream.end();
      return outcome;
    },
    async call(request, { method = single, metadata = {}, signal } = {}) {
      const headers = { ...metadata, ":path": `/${method.parent.typeName}/${method.name}` };
      const stream = open(headers);
      signal?.addEventListener("abort", () => stream.close(constants.NGHTTP2_CANCEL));
      stream.end(envelopeOf(request));
      return readRaw(stream);
    },
    close: () => session.destroy(),
  };
}

const callHeaders = {
  ":method": "POST",
  ":path": `/fixture.EchoService/${single.name}`,
  "content-type": "application/grpc",
  te: "trailers",
};

/** Encodes a request as an envelope. */
export function envelopeOf(request: JsonValue, flags = 0): Uint8Array {
  return encodeEnvelope(flags, toBinary(single.input, fromJson(single.input, request)));
}

/** Reads a response slowly, piece by piece. */
async function readRaw(stream: ClientHttp2Stream): Promise<RawOutcome> {
  let headers: HeaderMap = {};
  let trailers: HeaderMap = {};
  // The code of the stream reports the failure.
  stream.on("error", () => undefined);
  stream.on("response", (received) => (headers = toHeaderMap(Object.entries(received) as [string, string][])));
  stream.on("trailers", (received) => (trailers = toHeaderMap(Object.entries(received))));
  // Connect's adapter does not close a stream that its caller leaves open.
  const ended = Promise.race([once(stream, "end"), once(stream, "close")]);
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    stream.pause();
    setImmediate(() => stream.resume());
  });
  await ended;
  stream.close();
  const body = Buffer.concat(chunks);
  const status = Number(headers[":status"]);
  // A response without gRPC trailers: gRPC clients map the HTTP status to a code.
  const code = Number(trailers["grpc-status"] ?? (status === 404 ? Code.Unimplemented : Code.Unknown));
  const message = decodeURIComponent(String(trailers["grpc-message"] ?? ""));
  const hasOutput = code === 0 && headers["content-type"] === "application/grpc+proto";
  const output = hasOutput && toJson(single.output, fromBinary(single.output, body.subarray(5)));
  const outcome = {
    status,
    code,
    message,
    details: detailsOf(trailers),
    headers,
    trailers,
    body: body.toString("latin1"),
  };
  return output === false ? outcome : { ...outcome, output };
}

/** Leaves out the date, and grpc-encoding: only the adapter sends it, and no response is compressed. */
function toHeaderMap(headers: Iterable<[string, string | string[]]>): HeaderMap {
  return Object.fromEntries([...headers].filter(([name]) => name !== "date" && name !== "grpc-encoding"));
}

function detailsOf(trailers: HeaderMap): JsonValue[] {
  const status = trailers["grpc-status-details-bin"];
  if (status === undefined) return [];
  const { details } = fromBinary(StatusSchema, Buffer.from(String(status), "base64"));
  return (toJson(StatusSchema, { ...emptyStatus, details }, { registry: detailTypes }) as { details: JsonValue[] })
    .details;
}

const emptyStatus = fromBinary(StatusSchema, new Uint8Array());

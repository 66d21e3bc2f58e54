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

type Named = Record<string, string | string[]>;

/** All that a caller learns of its call. */
export interface Outcome {
  readonly code: number;
  readonly message: string;
  readonly details: readonly JsonValue[];
  readonly answer?: JsonValue;
  readonly headers: Named;
  readonly trailers: Named;
}

export interface Ask {
  readonly method?: DescMethodUnary;
  readonly metadata?: Readonly<Record<string, string | readonly string[]>>;
  readonly signal?: AbortSignal;
}

/** A client on one connection. */
export interface Caller {
  readonly call: (request: JsonValue, ask?: Ask) => Promise<Outcome>;
  readonly close: () => void;
}

const single = serviceOf("EchoService").method.single as DescMethodUnary;
const detailTypes = createRegistry(BadRequestSchema, ErrorInfoSchema, RetryInfoSchema);

export const callers = { "connect-node": callByConnect, "grpc-js": callByGrpcJs, "node:http2": openRaw };

function callByConnect(url: string): Caller {
  const sessionManager = new Http2SessionManager(url);
  const transport = createGrpcTransport({ baseUrl: url, sessionManager });
  return {
    async call(request, { method = single, metadata = {}, signal } = {}) {
      const header = new Headers();
      for (const [name, values] of Object.entries(metadata))
        for (const one of [values].flat()) header.append(name, one);
      try {
        const answer = await transport.unary(method, signal, undefined, header, fromJson(method.input, request));
        const said = { headers: named(answer.header), trailers: named(answer.trailer) };
        return { code: 0, message: "", details: [], answer: toJson(method.output, answer.message), ...said };
      } catch (error) {
        const { code, rawMessage, metadata: trailer } = ConnectError.from(error);
        const trailers = named(trailer);
        return { code, message: rawMessage, details: detailsOf(trailers), headers: {}, trailers };
      }
    },
    close: () => sessionManager.abort(),
  };
}

function callByGrpcJs(url: string): Caller {
  const client = new Client(url.replace("http://", ""), credentials.createInsecure());
  return {
    call: (request, { method = single, metadata: given = {}, signal } = {}) =>
      new Promise((done) => {
        const metadata = new Metadata();
        for (const [name, values] of Object.entries(given)) {
          for (const one of [values].flat())
            metadata.add(name, name.endsWith("-bin") ? Buffer.from(one, "base64") : one);
        }
        let answer: JsonValue | undefined;
        let headers: Named = {};
        const call = client.makeUnaryRequest(
          `/${method.parent.typeName}/${method.name}`,
          (value: JsonValue) => Buffer.from(toBinary(method.input, fromJson(method.input, value))),
          (bytes) => toJson(method.output, fromBinary(method.output, bytes)),
          request,
          metadata,
          (_error, value) => (answer = value),
        );
        call.on("metadata", (received: Metadata) => (headers = ofGrpcJs(received)));
        call.on("status", ({ code, details, metadata: received }: StatusObject) => {
          const trailers = ofGrpcJs(received);
          // It leaves escaped what may stand in a URI.
          const message = details.replaceAll("%3A", ":");
          const result = { code, message, details: detailsOf(trailers), headers, trailers };
          // The answer's callback comes after the status.
          setImmediate(() => done(answer === undefined ? result : { ...result, answer }));
        });
        signal?.addEventListener("abort", () => call.cancel());
      }),
    close: () => client.close(),
  };
}

function ofGrpcJs(metadata: Metadata): Named {
  return named(Object.entries(metadata.toHttp2Headers()).map(([name, value]) => [name, value as string | string[]]));
}

/** A client that writes its own frames. */
export interface RawCaller extends Caller {
  readonly open: (headers?: OutgoingHttpHeaders) => ClientHttp2Stream;
  /** Each chunk in a DATA frame of its own, and what comes back; without an end the stream is left open. */
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

/** A request as it goes over the wire. */
export function envelopeOf(request: JsonValue, flags = 0): Uint8Array {
  return encodeEnvelope(flags, toBinary(single.input, fromJson(single.input, request)));
}

/** Takes the body piece by piece, slowly. */
async function readRaw(stream: ClientHttp2Stream): Promise<RawOutcome> {
  let headers: Named = {};
  let trailers: Named = {};
  // Who was cut off is told so by its code.
  stream.on("error", () => undefined);
  stream.on("response", (received) => (headers = named(Object.entries(received) as [string, string][])));
  stream.on("trailers", (received) => (trailers = named(Object.entries(received))));
  // Connect's adapter does not close what its caller leaves open.
  const over = Promise.race([once(stream, "end"), once(stream, "close")]);
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    stream.pause();
    setImmediate(() => stream.resume());
  });
  await over;
  stream.close();
  const body = Buffer.concat(chunks);
  const status = Number(headers[":status"]);
  // An answer of HTTP alone is read as gRPC has it for its clients.
  const code = Number(trailers["grpc-status"] ?? (status === 404 ? Code.Unimplemented : Code.Unknown));
  const message = decodeURIComponent(String(trailers["grpc-message"] ?? ""));
  const isAnswer = code === 0 && headers["content-type"] === "application/grpc+proto";
  const answer = isAnswer && toJson(single.output, fromBinary(single.output, body.subarray(5)));
  const told = {
    status,
    code,
    message,
    details: detailsOf(trailers),
    headers,
    trailers,
    body: body.toString("latin1"),
  };
  return answer === false ? told : { ...told, answer };
}

/** Without the date, and without the name of an encoding that no answer uses: the adapter gives it, the door does not. */
function named(headers: Iterable<[string, string | string[]]>): Named {
  return Object.fromEntries([...headers].filter(([name]) => name !== "date" && name !== "grpc-encoding"));
}

function detailsOf(trailers: Named): JsonValue[] {
  const status = trailers["grpc-status-details-bin"];
  if (status === undefined) return [];
  const { details } = fromBinary(StatusSchema, Buffer.from(String(status), "base64"));
  return (toJson(StatusSchema, { ...emptyStatus, details }, { registry: detailTypes }) as { details: JsonValue[] })
    .details;
}

const emptyStatus = fromBinary(StatusSchema, new Uint8Array());

import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import {
  create,
  type DescMethod,
  fromBinary,
  isMessage,
  type Message,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type ContextValues, type HandlerContext } from "@connectrpc/connect";
import { parseTimeout } from "@connectrpc/connect/protocol-grpc";
import { createContext, type LightContext, untilInterrupted } from "../call/context.ts";
import { callError } from "../call/errors.ts";
import { toNodeHeaders } from "../call/headers.ts";
import type { ServiceOptions } from "../call/service-options.ts";
import { encodeMessageEnvelope } from "./encode.ts";
import { readEnvelope } from "./envelope.ts";
import { toTrailers } from "./trailers.ts";

export interface GrpcServerOptions extends ServiceOptions {
  /** Returns the values for the handler's context, and headers for every response. */
  readonly receive: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => Received;
  /** Converts the error of an unreadable request or an unwritable response into the public error. */
  readonly refuse?: (context: HandlerContext, error: unknown) => ConnectError;
  /**
   * Called once for each call, when its response is sent.
   * @param bytes the size of the body; undefined when the caller had left
   */
  readonly onResponse?: (context: HandlerContext, bytes: number | undefined) => void;
}

export interface Received {
  readonly values: ContextValues;
  readonly headers: Readonly<Record<string, string>>;
}

/** Returns whether it serves the stream; otherwise it leaves the stream untouched. */
export type GrpcServer = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean;

interface Route {
  readonly method: DescMethod;
  readonly path: string;
  readonly maxBytes: number;
  readonly call: (request: Message, context: HandlerContext) => Promise<Output>;
}

type Output = MessageInitShape<DescMethod["output"]>;

/**
 * Serves unary, uncompressed gRPC directly from Node's HTTP/2 streams. It responds as Connect's adapter does, at an eighth
 * of its cost. It leaves everything else alone: streams, compressed calls, gRPC-Web, Connect and other requests.
 */
export function createGrpcServer(options: GrpcServerOptions): GrpcServer {
  const routes = new Map(options.services.flatMap((service) => routesOf(service, options.maxBodyBytes)));

  return (stream, headers) => {
    const route = routes.get(headers[":path"] ?? "");
    if (route === undefined || !isPlain(headers)) return false;
    const { timeoutMs, error } = parseTimeout(textOf(headers["grpc-timeout"]), Number.POSITIVE_INFINITY);
    if (error !== undefined) return false;
    // The stream's close event reports the failure.
    stream.on("error", () => undefined);
    serve(options, route, { stream, headers, timeoutMs }).catch(() => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
    return true;
  };
}

function routesOf(
  { service, implementation }: GrpcServerOptions["services"][number],
  maxBodyBytes: GrpcServerOptions["maxBodyBytes"],
): [path: string, route: Route][] {
  return service.methods.flatMap((method): [string, Route][] => {
    const call = (implementation as Record<string, unknown>)[method.localName];
    if (method.methodKind !== "unary" || typeof call !== "function") return [];
    const path = `/${service.typeName}/${method.name}`;
    return [[path, { method, path, maxBytes: maxBodyBytes(method), call: call.bind(implementation) as Route["call"] }]];
  });
}

function isPlain(headers: IncomingHttpHeaders): boolean {
  const type = headers["content-type"];
  const encoding = headers["grpc-encoding"];
  return (
    headers[":method"] === "POST" &&
    (type === "application/grpc" || type === "application/grpc+proto") &&
    (encoding === undefined || encoding === "identity")
  );
}

function textOf(header: string | string[] | undefined): string | null {
  return typeof header === "string" ? header : null;
}

interface Incoming {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly timeoutMs: number | undefined;
}

async function serve(
  options: GrpcServerOptions,
  route: Route,
  { stream, headers, timeoutMs }: Incoming,
): Promise<void> {
  const { method } = route;
  const received = options.receive(stream, headers);
  const context = createContext({
    method,
    requestMethod: "POST",
    route: route.path,
    url: `${headers[":scheme"]}://${headers[":authority"] ?? headers.host}${headers[":path"]}`,
    headers,
    values: received.values,
    protocolName: "grpc",
    timeoutMs,
    response: stream,
  });
  try {
    const request = await readRequest(options, route, stream, context);
    const output = await route.call(request, context);
    context.end();
    const envelope = encodeOutput(options, method, output, context);
    const bytes = respond(stream, received, context, { envelope });
    options.onResponse?.(context, bytes);
  } catch (error) {
    context.end();
    const bytes = respond(stream, received, context, { error: toConnectError(error) });
    options.onResponse?.(context, bytes);
  }
}

async function readRequest(
  { admit, refuse, bodyTimeoutMs }: GrpcServerOptions,
  { method, maxBytes }: Route,
  stream: ServerHttp2Stream,
  context: LightContext,
): Promise<Message> {
  let isAdmitted = false;
  try {
    const admission = admit?.(context);
    if (admission !== undefined) await admission;
    isAdmitted = true;
    const bytes = await untilInterrupted(context, readEnvelope(stream, { maxBytes, timeoutMs: bodyTimeoutMs }));
    return parse(method, bytes);
  } catch (error) {
    // An error of admit is public already.
    throw !isAdmitted || refuse === undefined ? error : refuse(context, error);
  }
}

function parse(method: DescMethod, bytes: Uint8Array): Message {
  try {
    return fromBinary(method.input, bytes);
  } catch (error) {
    throw callError("MALFORMED_MESSAGE", Code.InvalidArgument, `parse binary: ${messageOf(error)}`);
  }
}

function encodeOutput(
  { refuse }: GrpcServerOptions,
  { output: desc }: DescMethod,
  output: Output,
  context: HandlerContext,
): Uint8Array {
  const message = isMessage(output, desc) ? output : create(desc, output);
  try {
    return encodeMessageEnvelope(desc, message);
  } catch (error) {
    const failure = callError("INTERNAL", Code.Internal, `serialize binary: ${messageOf(error)}`);
    throw refuse === undefined ? failure : refuse(context, failure);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  // The text of an unexpected error is internal.
  return callError("INTERNAL", Code.Internal, "internal error", error);
}

type Outcome = { readonly envelope: Uint8Array } | { readonly error: ConnectError };

/** Returns the size of the body. Undefined when the caller has left. */
function respond(
  stream: ServerHttp2Stream,
  { headers }: Received,
  { givenHeader, givenTrailer }: LightContext,
  outcome: Outcome,
): number | undefined {
  if (stream.closed || stream.destroyed) return undefined;
  stream.once("wantTrailers", () => {
    stream.sendTrailers(toTrailers(givenTrailer, "error" in outcome ? outcome.error : undefined));
    // Asks the caller to stop sending, once the response is complete (RFC 9113, 8.1).
    if (!stream.readableEnded) setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR));
  });
  stream.respond(
    {
      ":status": 200,
      "content-type": "application/grpc+proto",
      ...headers,
      ...(givenHeader && toNodeHeaders(givenHeader)),
    },
    { waitForTrailers: true },
  );
  if (!("envelope" in outcome)) {
    stream.end();
    return 0;
  }
  stream.end(outcome.envelope);
  return outcome.envelope.length;
}

import { constants, type Http2ServerRequest } from "node:http2";
import {
  create,
  type DescMessage,
  type DescMethod,
  isMessage,
  type Message,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import { Code, type ConnectRouter, createConnectRouter, type HandlerContext } from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { parseTimeout, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { createContext, maxTimerMs } from "../call/context.ts";
import { callError } from "../call/errors.ts";
import { HttpError } from "../gateway/errors.ts";
import type { Exchange } from "../gateway/exchange.ts";
import type { Gateway } from "../gateway/gateway.ts";
import { createJsonDecoder } from "../gateway/json/read.ts";
import { defaultJsonLimits } from "../gateway/json/scan.ts";
import { destroyResponse } from "../gateway/send.ts";
import { sendError } from "../gateway/send-error.ts";
import { encodeAhead } from "../grpc/encode.ts";
import type { createErrorBodies } from "../pipeline/error-body.ts";
import type { Pipeline, Route } from "../pipeline/pipeline.ts";
import { readInMessages } from "./connect-body.ts";
import { replaceConnectError } from "./connect-errors.ts";
import { createOldestEviction } from "./eviction.ts";

export interface ConnectServerOptions {
  readonly routes: readonly Route[];
  /** Adds services outside the pipeline. They need no token. */
  readonly addPublic: (router: ConnectRouter) => void;
  readonly pipeline: Pipeline;
  readonly describeError: ReturnType<typeof createErrorBodies>;
  readonly maxBodyBytes: (method: DescMethod) => number;
  readonly bodyTimeoutMs: number;
  /** How long a stream of a public service may last. */
  readonly publicStreamMs: number;
  /** Serves every path that is not an RPC. */
  readonly fallback: Gateway;
}

/** Open streams of public services. One more ends the oldest; clients reopen theirs. */
const maxPublicStreams = 256;

const jsonOptions = { useProtoFieldName: true, alwaysEmitImplicit: true, ignoreUnknownFields: false };
type JsonOptions = typeof jsonOptions;

/** The largest value that Connect accepts. Compression is off: it lets a caller burn CPU. */
const compressNothing = 0xffffffff;

/**
 * Serves gRPC, gRPC-Web and Connect with Connect's own handlers. In addition to connectNodeAdapter, it authorizes the
 * caller before it reads the request, and it adds tracedata to errors of Connect itself and logs them.
 */
export function createConnectServer(options: ConnectServerOptions): Gateway {
  const { routes, addPublic, pipeline, describeError, maxBodyBytes, bodyTimeoutMs, publicStreamMs, fallback } = options;
  const router = createConnectRouter({
    acceptCompression: [compressionGzip, compressionBrotli],
    compressMinBytes: compressNothing,
    jsonOptions,
  });
  const guarded = new Set<DescMethod>();
  for (const { service, implementation } of routes) {
    for (const method of service.methods) {
      guarded.add(method);
      const call = callOf(method, (implementation as Record<string, unknown>)[method.localName]);
      // Connect parses JSON with protobuf-es only. Its text decoder is the one place to check the JSON before.
      const textDecoder = createJsonDecoder(method.input, defaultJsonLimits);
      const guardedJson: JsonOptions & { readonly textDecoder: typeof textDecoder } = { ...jsonOptions, textDecoder };
      router.rpc(method, call, { readMaxBytes: maxBodyBytes(method), jsonOptions: guardedJson });
    }
  }
  addPublic(router);
  const publicStreams = createOldestEviction(maxPublicStreams, publicStreamMs);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));

  return (request, response, values) => {
    const handler = handlers.get((request.url ?? "").split("?", 1)[0] ?? "");
    const isGrpc = /^application\/grpc\b/i.test(request.headers["content-type"] ?? "");
    if (handler === undefined && isGrpc) refuseUnknownRpc({ request, response, values });
    else if (handler === undefined) fallback(request, response, values);
    // The response cannot be completed: the caller must see that it is cut.
    else serve(handler, { request, response, values }).catch(() => destroyResponse(response));
  };

  /** gRPC clients read gRPC's status only: a plain 404 would give them no reason. */
  function refuseUnknownRpc({ request, response, values }: Exchange): void {
    const unknown = callError("NO_SUCH_PATH", Code.Unimplemented, "the server has no RPC of this name");
    const protocolName = protocolOf(request.headers["content-type"]);
    const failure = { values, context: undefined, bodyField: undefined, status: undefined, protocolName };
    const trailers = new Headers();
    setTrailerStatus(trailers, describeError(unknown, failure).error);
    response.writeHead(200, { ...Object.fromEntries(trailers), "content-type": request.headers["content-type"] });
    response.end();
  }

  async function serve(handler: UniversalHandler, { request, response, values }: Exchange): Promise<void> {
    const context = createContext({
      method: handler.method,
      requestMethod: request.method ?? "",
      route: handler.requestPath,
      url: request.url ?? "",
      headers: request.headers,
      values,
      protocolName: protocolOf(request.headers["content-type"]),
      // Connect's own context enforces the deadline.
      timeoutMs: undefined,
      response,
    });
    response.once("finish", () => context.end());
    if ("stream" in request) request.stream.once("wantTrailers", () => setImmediate(endRequest, request));
    if (!guarded.has(handler.method) && handler.method.methodKind !== "unary") {
      const leave = publicStreams.enter(() => endStream(response));
      response.once("close", leave);
    }
    const universal = universalRequestFromNodeRequest(request, response, undefined, values);
    const body = readAdmitted(request, universal.body as AsyncIterable<Uint8Array>, context);
    capDeadline(universal.header);
    const result = await handler({ ...universal, body });
    const error = httpErrorOf(result, handler);
    if (error !== undefined) return sendError({ describeError }, { request, response, values, context }, error);
    const replaced = await replaceConnectError(result, (connectError) => pipeline.refuse(context, connectError));
    await universalResponseToNodeResponse(replaced, response);
  }

  async function* readAdmitted(
    { headers }: Exchange["request"],
    body: AsyncIterable<Uint8Array>,
    context: HandlerContext,
  ): AsyncGenerator<Uint8Array> {
    const { method } = context;
    const isGuarded = guarded.has(method);
    if (isGuarded) await pipeline.admit(context);
    yield* readInMessages(body, headers["content-type"] ?? "", {
      maxBytes: maxBodyBytes(method),
      bodyTimeoutMs: isStream(method) ? undefined : bodyTimeoutMs,
      // A stream of an unauthenticated caller must not be silent.
      pieceTimeoutMs: isStream(method) && !isGuarded ? bodyTimeoutMs : undefined,
    });
  }
}

/** Caps the caller's deadline: Connect passes it to a timer unchecked. */
function capDeadline(headers: Headers): void {
  const { timeoutMs = 0 } = parseTimeout(headers.get("grpc-timeout"), Number.POSITIVE_INFINITY);
  if (timeoutMs > maxTimerMs) headers.set("grpc-timeout", `${Math.floor(maxTimerMs / 1000)}S`);
  const text = headers.get("connect-timeout-ms") ?? "";
  if (/^\d{1,10}$/.test(text) && Number(text) > maxTimerMs) headers.set("connect-timeout-ms", String(maxTimerMs));
}

/** Ends a stream with a code that lets its caller reopen it. */
function endStream(response: Exchange["response"]): void {
  if ("stream" in response) response.stream.close(constants.NGHTTP2_REFUSED_STREAM);
  else response.destroy();
}

/** Asks the caller to stop sending, once the response is complete (RFC 9113, 8.1). */
function endRequest({ stream, complete }: Http2ServerRequest): void {
  if (!complete) stream.close(constants.NGHTTP2_NO_ERROR);
}

type Call = Parameters<ConnectRouter["rpc"]>[1];
type StreamCall = (request: unknown, context: HandlerContext) => AsyncIterable<MessageInitShape<DescMessage>>;

/** Returns the handler of a method for Connect. */
function callOf({ methodKind, output }: DescMethod, handler: unknown): Call {
  if (methodKind !== "server_streaming" && methodKind !== "bidi_streaming") return handler as Call;
  const encoded: StreamCall = (request, context) => {
    const messages = (handler as StreamCall)(request, context);
    // Connect has chosen the type of the answer.
    const isJson = context.responseHeader.get("content-type")?.includes("json") === true;
    return isJson ? messages : encodeStream(output, messages);
  };
  return encoded as Call;
}

/** Encodes the messages of an answer before Connect does, whose encoder takes longer than a quota decision. */
async function* encodeStream(output: DescMessage, messages: ReturnType<StreamCall>): AsyncGenerator<Message> {
  for await (const message of messages) {
    yield encodeOne(output, isMessage(message, output) ? message : create(output, message));
  }
}

function encodeOne(output: DescMessage, message: Message): Message {
  try {
    return encodeAhead(output, message);
  } catch (error) {
    // Connect throws the same text.
    const text = `serialize binary: ${error instanceof Error ? error.message : String(error)}`;
    throw callError("INTERNAL", Code.Internal, text);
  }
}

/** Whether the caller may send many messages. */
function isStream({ methodKind }: DescMethod): boolean {
  return methodKind === "client_streaming" || methodKind === "bidi_streaming";
}

/** Returns the error of a response for which Connect sends only a status. */
function httpErrorOf({ status, body }: UniversalServerResponse, handler: UniversalHandler): HttpError | undefined {
  if (body !== undefined) return undefined;
  switch (status) {
    case 405:
      return new HttpError(
        "HTTP_METHOD_NOT_ALLOWED",
        `${handler.method.name} must be called with ${handler.allowedMethods.join(" or ")}`,
        {
          allow: handler.allowedMethods.join(", "),
        },
      );
    case 415:
      return new HttpError(
        "UNSUPPORTED_MEDIA_TYPE",
        `the content type must be one that ${handler.method.name} accepts`,
      );
    case 505:
      return new HttpError("HTTP_VERSION_NOT_SUPPORTED", `${handler.method.name} must be called over HTTP/2`);
    default:
      return undefined;
  }
}

/** Returns the name of the transport that serves RPCs with this content type. */
export function protocolOf(contentType = ""): string {
  const type = contentType.toLowerCase();
  if (type.startsWith("application/grpc-web")) return "grpc-web";
  return type.startsWith("application/grpc") ? "grpc" : "connect";
}

import { constants, type Http2ServerRequest } from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
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
import { sendRefusal } from "../gateway/refuse.ts";
import { destroyAnswer } from "../gateway/send.ts";
import type { createErrorBodies } from "../pipeline/error-body.ts";
import type { Pipeline, Route } from "../pipeline/pipeline.ts";
import { readInMessages } from "./connect-body.ts";
import { explainConnectError } from "./connect-errors.ts";
import { createOldestEviction } from "./eviction.ts";

export interface ConnectServerOptions {
  readonly routes: readonly Route[];
  /** Adds services that stand outside of the pipeline: for everybody, without a token. */
  readonly addPublic: (router: ConnectRouter) => void;
  readonly pipeline: Pipeline;
  readonly describeError: ReturnType<typeof createErrorBodies>;
  readonly maxBodyBytes: (method: DescMethod) => number;
  readonly bodyTimeoutMs: number;
  /** How long a stream of one of the public services may last. */
  readonly publicStreamMs: number;
  /** Serves what is no path of an RPC. */
  readonly otherwise: Gateway;
}

/** Streams of the public services that may be open at once. With one more, the oldest is ended: clients open it again. */
const maxPublicStreams = 256;

const jsonOptions = { useProtoFieldName: true, alwaysEmitImplicit: true, ignoreUnknownFields: false };
type JsonOptions = typeof jsonOptions;

/** The largest number that Connect takes: no answer is compressed, so that no caller can order the work of it. */
const never = 0xffffffff;

/**
 * gRPC, gRPC-Web and Connect by Connect's own handlers. Beside what connectNodeAdapter does, it asks who is calling
 * before it reads the request, and errors that Connect makes by itself carry tracedata and are logged like every other.
 */
export function createConnectServer(options: ConnectServerOptions): Gateway {
  const { routes, addPublic, pipeline, describeError, maxBodyBytes, bodyTimeoutMs, publicStreamMs, otherwise } =
    options;
  const router = createConnectRouter({
    acceptCompression: [compressionGzip, compressionBrotli],
    compressMinBytes: never,
    jsonOptions,
  });
  const guarded = new Set<DescMethod>();
  for (const { service, implementation } of routes) {
    for (const method of service.methods) {
      guarded.add(method);
      const call = (implementation as Record<string, unknown>)[method.localName] as Parameters<typeof router.rpc>[1];
      // Connect reads JSON by protobuf-es alone. Its decoder of bytes to text is where a check can stand in front.
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
    const isGrpc = /^application\/grpc\b/.test(request.headers["content-type"] ?? "");
    if (handler === undefined && isGrpc) refuseUnknownRpc({ request, response, values });
    else if (handler === undefined) otherwise(request, response, values);
    // Who cannot be answered is gone, or must be told that the answer has no end.
    else serve(handler, { request, response, values }).catch(() => destroyAnswer(response));
  };

  /** gRPC clients read a status alone: an answer of 404 would have no reason for them. */
  function refuseUnknownRpc({ request, response, values }: Exchange): void {
    const unknown = callError("NO_SUCH_PATH", Code.Unimplemented, "the server has no RPC of this name");
    const failure = { values, context: undefined, bodyField: undefined, status: undefined };
    const trailers = new Headers();
    setTrailerStatus(trailers, describeError(unknown, failure).error);
    response.writeHead(200, { ...Object.fromEntries(trailers), "content-type": request.headers["content-type"] });
    response.end();
  }

  async function serve(handler: UniversalHandler, { request, response, values }: Exchange): Promise<void> {
    const context = createContext({
      method: handler.method,
      requestMethod: request.method ?? "",
      url: request.url ?? "",
      headers: request.headers,
      values,
      protocolName: protocolOf(request.headers["content-type"]),
      // Connect's own context keeps the deadline.
      timeoutMs: undefined,
      answer: response,
    });
    response.once("finish", () => context.end());
    if ("stream" in request) request.stream.once("wantTrailers", () => setImmediate(endRequest, request));
    if (!guarded.has(handler.method) && handler.method.methodKind !== "unary") {
      response.once(
        "close",
        publicStreams.enter(() => endStream(response)),
      );
    }
    const universal = universalRequestFromNodeRequest(request, response, undefined, values);
    const body = admitted(request, universal.body as AsyncIterable<Uint8Array>, context);
    capDeadline(universal.header);
    const answer = await handler({ ...universal, body });
    const error = httpError(answer, handler);
    if (error !== undefined) return sendRefusal({ describeError }, { request, response, values, context }, error);
    const explained = await explainConnectError(answer, (made) => pipeline.refuse(context, made));
    await universalResponseToNodeResponse(explained, response);
  }

  async function* admitted(
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
      // A stream of a caller whom nobody knows must not be silent.
      pieceTimeoutMs: isStream(method) && !isGuarded ? bodyTimeoutMs : undefined,
    });
  }
}

/** Connect hands the deadline to a timer as it is. */
function capDeadline(headers: Headers): void {
  const { timeoutMs = 0 } = parseTimeout(headers.get("grpc-timeout"), Number.POSITIVE_INFINITY);
  if (timeoutMs > maxTimerMs) headers.set("grpc-timeout", `${Math.floor(maxTimerMs / 1000)}S`);
  const text = headers.get("connect-timeout-ms") ?? "";
  if (/^\d{1,10}$/.test(text) && Number(text) > maxTimerMs) headers.set("connect-timeout-ms", String(maxTimerMs));
}

/** As one that its caller may open again. */
function endStream(response: Exchange["response"]): void {
  if ("stream" in response) response.stream.close(constants.NGHTTP2_REFUSED_STREAM);
  else response.destroy();
}

/** Once the answer is out, the caller is asked to send no more (RFC 9113, 8.1). */
function endRequest({ stream, complete }: Http2ServerRequest): void {
  if (!complete) stream.close(constants.NGHTTP2_NO_ERROR);
}

/** Whether the caller may send many messages. */
function isStream({ methodKind }: DescMethod): boolean {
  return methodKind === "client_streaming" || methodKind === "bidi_streaming";
}

/** What Connect answers by a bare status. */
function httpError({ status, body }: UniversalServerResponse, handler: UniversalHandler): HttpError | undefined {
  if (body !== undefined) return undefined;
  switch (status) {
    case 405:
      return new HttpError("HTTP_METHOD_NOT_ALLOWED", `${handler.method.name} takes no such HTTP method`, {
        allow: handler.allowedMethods.join(", "),
      });
    case 415:
      return new HttpError("UNSUPPORTED_MEDIA_TYPE", `${handler.method.name} does not take this content type`);
    case 505:
      return new HttpError("HTTP_VERSION_NOT_SUPPORTED", `${handler.method.name} needs HTTP/2`);
    default:
      return undefined;
  }
}

function protocolOf(contentType = ""): string {
  if (contentType.startsWith("application/grpc-web")) return "grpc-web";
  return contentType.startsWith("application/grpc") ? "grpc" : "connect";
}

import { EventEmitter } from "node:events";
import { createServer, type Http2Server, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import type { DescService } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
  type ServiceImpl,
} from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { BadRequestSchema, RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { createGrpcServer, type GrpcServerOptions } from "../../src/grpc/server.ts";
import { type Implementation, serviceOf } from "../gateway/fixture.ts";

export const maxBodyBytes = 100_000;
export const largeResponseBytes = 300_000;

/** A context value that `receive` sets. */
export const valueKey = createContextKey("");

export interface TestServer {
  readonly url: string;
  /** Emits "working" when a handler starts, and "aborted" with the reason. */
  readonly handlerEvents: EventEmitter;
  /** Returns the number of calls that the gRPC server has served. */
  readonly servedCount: () => number;
  readonly stop: () => void;
}

const service = serviceOf("EchoService");

/** Starts Connect's own adapter. */
export function startAdapter(): Promise<TestServer> {
  const handlerEvents = new EventEmitter();
  return listen(createServer(adapterOf(handlerEvents)), handlerEvents, () => 0);
}

/** Starts the gRPC server, with the adapter for calls that it leaves alone, as src/transport/http2.ts does. */
export function startGrpcServer(options: Partial<GrpcServerOptions> = {}): Promise<TestServer> {
  const handlerEvents = new EventEmitter();
  const grpcServer = createGrpcServer({
    services: [{ service, implementation: implementationOf(handlerEvents) }],
    maxBodyBytes: () => maxBodyBytes,
    bodyTimeoutMs: 30_000,
    receive: () => ({ values: createContextValues(), headers: {} }),
    ...options,
  });
  let servedCount = 0;
  // This server never listens.
  const requests = createServer().on("request", adapterOf(handlerEvents));
  const server = createServer().on("stream", (stream, headers, ...rest) => {
    if (grpcServer(stream, headers)) servedCount += 1;
    else requests.emit("stream", stream, headers, ...rest);
  });
  return listen(server, handlerEvents, () => servedCount);
}

async function listen(
  server: Http2Server,
  handlerEvents: EventEmitter,
  servedCount: TestServer["servedCount"],
): Promise<TestServer> {
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    handlerEvents,
    servedCount,
    stop() {
      for (const session of sessions) session.destroy();
      server.close();
    },
  };
}

function adapterOf(handlerEvents: EventEmitter) {
  return connectNodeAdapter({
    routes: (router: ConnectRouter) => router.service(service, implementationOf(handlerEvents)),
    readMaxBytes: maxBodyBytes,
    // Responses are never compressed, as in src/transport/connect.ts.
    compressMinBytes: 0xffffffff,
  });
}

function implementationOf(handlerEvents: EventEmitter): Partial<ServiceImpl<DescService>> {
  const implementation: object = {
    single: async (request: Request, context: HandlerContext) => {
      handlerEvents.emit("working", request.text);
      return (behaviors[request.text] ?? behaviors.echo)?.(request, context, handlerEvents);
    },
  };
  return implementation;
}

type Request = Parameters<Implementation[string]>[0];
type Behavior = (request: Request, context: HandlerContext, handlerEvents: EventEmitter) => unknown;

const bytes = Uint8Array.of(0, 255, 128);

/** Handlers, by the text of the request. */
const behaviors: Record<string, Behavior> = {
  echo: (request) => request,
  trailers: (request, { responseTrailer }) => {
    responseTrailer.set("x-last", "2");
    return request;
  },
  headers: (request, { responseHeader }) => {
    responseHeader.set("x-one", "1");
    for (const value of ["a", "b"]) responseHeader.append("x-many", value);
    for (const value of ["c=1", "d=2"]) responseHeader.append("set-cookie", value);
    responseHeader.set("x-bytes-bin", Buffer.from(bytes).toString("base64"));
    // A handler that forwards another server's headers may set a connection-specific one.
    responseHeader.set("connection", "close");
    return request;
  },
  context: (_request, context) => ({
    texts: [...context.requestHeader].filter(([name]) => !clientHeaders.has(name)).map((header) => header.join(": ")),
    names: {
      method: context.method.name,
      service: context.service.typeName,
      verb: context.requestMethod,
      protocol: context.protocolName,
      url: context.url.replace(/:\d+/, ""),
      timeout: String((context.timeoutMs() ?? 0) > 3_000_000),
      aborted: String(context.signal.aborted),
    },
  }),
  fails: (_request, { responseHeader }) => {
    responseHeader.set("x-one", "1");
    const details = [
      { desc: BadRequestSchema, value: { fieldViolations: [{ field: "text", description: "löchrig" }] } },
      { desc: RetryInfoSchema, value: { retryDelay: { seconds: 3n, nanos: 0 } } },
    ];
    const metadata = new Headers({ "x-why": "a", "x-bytes-bin": "AP+A" });
    metadata.append("x-why", "b");
    throw new ConnectError("100 % naïve – 失败\n", Code.FailedPrecondition, metadata, details);
  },
  // A handler that forwards another server's error. Connect's adapter would crash the process.
  forwards: () => {
    throw new ConnectError("not there", Code.NotFound, { connection: "close", "x-why": "a" });
  },
  breaks: () => {
    throw new TypeError("the password is 1234");
  },
  values: (_request, { values }) => ({ text: values.get(valueKey) }),
  // Not a message yet: Connect creates one.
  plain: () => ({ text: "created" }),
  unwritable: (request) => ({ ...request, number: 1.5 }),
  large: () => ({ data: Buffer.alloc(largeResponseBytes, "0123456789") }),
  async waits(_request, { signal }, handlerEvents) {
    await new Promise((done) => signal.addEventListener("abort", done));
    handlerEvents.emit("aborted", signal.reason);
    throw signal.reason;
  },
};

const clientHeaders: ReadonlySet<string> = new Set([
  "accept-encoding",
  "grpc-accept-encoding",
  "grpc-encoding",
  "grpc-timeout",
  "user-agent",
]);

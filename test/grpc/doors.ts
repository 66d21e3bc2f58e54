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
export const largeAnswerBytes = 300_000;

/** What a door's owner gives to handlers. */
export const valueKey = createContextKey("");

export interface TestServer {
  readonly url: string;
  /** What handlers do, as events: "working", and "aborted" with the reason. */
  readonly handled: EventEmitter;
  /** The calls that the door took until now. */
  readonly taken: () => number;
  readonly stop: () => void;
}

const service = serviceOf("EchoService");

/** Connect's own adapter alone. */
export function startAdapter(): Promise<TestServer> {
  const handled = new EventEmitter();
  return listen(createServer(adapterOf(handled)), handled, () => 0);
}

/** The door, and the adapter behind it for what the door leaves, as src/transport/http2.ts puts them together. */
export function startGrpcServer(options: Partial<GrpcServerOptions> = {}): Promise<TestServer> {
  const handled = new EventEmitter();
  const door = createGrpcServer({
    services: [{ service, implementation: implementationOf(handled) }],
    maxBodyBytes: () => maxBodyBytes,
    bodyTimeoutMs: 30_000,
    receive: () => ({ values: createContextValues(), headers: {} }),
    ...options,
  });
  let taken = 0;
  // Never listens.
  const requests = createServer().on("request", adapterOf(handled));
  const server = createServer().on("stream", (stream, headers, ...rest) => {
    if (door(stream, headers)) taken += 1;
    else requests.emit("stream", stream, headers, ...rest);
  });
  return listen(server, handled, () => taken);
}

async function listen(server: Http2Server, handled: EventEmitter, taken: TestServer["taken"]): Promise<TestServer> {
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    handled,
    taken,
    stop() {
      for (const session of sessions) session.destroy();
      server.close();
    },
  };
}

function adapterOf(handled: EventEmitter) {
  return connectNodeAdapter({
    routes: (router: ConnectRouter) => router.service(service, implementationOf(handled)),
    readMaxBytes: maxBodyBytes,
    // As src/transport/connect.ts has it: answers are never compressed.
    compressMinBytes: 0xffffffff,
  });
}

function implementationOf(handled: EventEmitter): Partial<ServiceImpl<DescService>> {
  const implementation: object = {
    single: async (request: Request, context: HandlerContext) => {
      handled.emit("working", request.text);
      return (behaviours[request.text] ?? behaviours.echo)?.(request, context, handled);
    },
  };
  return implementation;
}

type Request = Parameters<Implementation[string]>[0];
type Behaviour = (request: Request, context: HandlerContext, handled: EventEmitter) => unknown;

const bytes = Uint8Array.of(0, 255, 128);

/** What the handler does, by the text of the request. */
const behaviours: Record<string, Behaviour> = {
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
    // Of the connection, as a handler has it that passes on what another server said.
    responseHeader.set("connection", "close");
    return request;
  },
  context: (_request, context) => ({
    texts: [...context.requestHeader].filter(([name]) => !ofClient.has(name)).map((header) => header.join(": ")),
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
  // As a handler has it that passes on the error of another server; Connect's adapter would bring the process down.
  proxies: () => {
    throw new ConnectError("not there", Code.NotFound, { connection: "close", "x-why": "a" });
  },
  breaks: () => {
    throw new TypeError("the password is 1234");
  },
  values: (_request, { values }) => ({ text: values.get(valueKey) }),
  // No message yet: Connect makes one of it.
  plain: () => ({ text: "made" }),
  unwritable: (request) => ({ ...request, number: 1.5 }),
  large: () => ({ data: Buffer.alloc(largeAnswerBytes, "0123456789") }),
  async waits(_request, { signal }, handled) {
    await new Promise((done) => signal.addEventListener("abort", done));
    handled.emit("aborted", signal.reason);
    throw signal.reason;
  },
};

const ofClient: ReadonlySet<string> = new Set([
  "accept-encoding",
  "grpc-accept-encoding",
  "grpc-encoding",
  "grpc-timeout",
  "user-agent",
]);

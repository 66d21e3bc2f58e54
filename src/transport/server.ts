import type { DescMethod } from "@bufbuild/protobuf";
import { Health, HealthCheckResponse_ServingStatus as Status } from "#gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "#gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.js";
import { createGateway } from "../gateway/gateway.ts";
import { createGrpcServer } from "../grpc/server.ts";
import { isPublic } from "../pipeline/authorization.ts";
import type { CallCounts } from "../pipeline/call-counts.ts";
import { answerHeaders, originValues, readOrigin, receiveRequest } from "../pipeline/client-origin.ts";
import type { createErrorBodies } from "../pipeline/error-body.ts";
import type { Pipeline, Route } from "../pipeline/pipeline.ts";
import { tracecodeHeader } from "../pipeline/tracedata.ts";
import { refusal } from "../shared/errors.ts";
import { createConnectServer, protocolOf } from "./connect.ts";
import { createCors } from "./cors.ts";
import { createCallCounter } from "./count-calls.ts";
import { createHealth } from "./health.ts";
import type { BadRequestReason } from "./http1.ts";
import { type Listener, type ListenerOptions, listen } from "./listener.ts";
import { respondToProbe } from "./probes.ts";
import { createReflection } from "./reflection.ts";
import { onResponseEnd } from "./response-end.ts";

export interface ServerOptions
  extends Pick<ListenerOptions, "host" | "port" | "tls" | "limits" | "onAcceptError" | "unauthenticated"> {
  readonly routes: readonly Route[];
  readonly pipeline: Pipeline;
  /** Counts the calls of services outside the pipeline. */
  readonly calls?: CallCounts | undefined;
  readonly describeError: ReturnType<typeof createErrorBodies>;
  readonly maxBodyBytes: number;
  readonly trustedProxies: number;
  /** The origins whose pages may call the server; see createCors. */
  readonly corsOrigins: readonly string[];
  /** How long a caller may take to send a body. Streams are exempt. */
  readonly bodyTimeoutMs: number;
}

/** The largest body of a public operation: a username and a password. */
const publicBodyBytes = 16_384;
/** The longest stream of reflection and health. Clients that need more open another one. */
const publicStreamMs = 600_000;

const badRequestTexts: Readonly<Record<BadRequestReason, string>> = {
  MALFORMED_HTTP: "the bytes are not a valid HTTP request",
  HEADERS_TOO_LARGE: "the headers of the request are too large",
  HTTP_METHOD_UNKNOWN: "the server does not support the HTTP method",
  HEADERS_TOO_SLOW: "the request did not arrive in time",
};

export interface RunningServer extends Listener {
  /** Answers NOT_SERVING and "not ready" from now on. Calls are still served until the drain. */
  readonly announceDrain: () => void;
}

/** Serves all transports on one port: gRPC, gRPC-Web and Connect on the paths of RPCs, HTTP/JSON on all others. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { routes, pipeline, describeError, maxBodyBytes, trustedProxies, bodyTimeoutMs } = options;
  const interceptors = options.calls === undefined ? [] : [createCallCounter(options.calls, protocolOf)];
  const publicOptions = { readMaxBytes: publicBodyBytes, interceptors };
  const services = routes.map(({ service }) => service);
  const health = createHealth(services.map(({ typeName }) => typeName));
  const reflection = createReflection([...services, Health, ServerReflection]);
  const needsNoToken = (method: DescMethod) => isPublic(method) || !services.includes(method.parent);
  const maxBodyBytesOf = (method: DescMethod) =>
    needsNoToken(method) ? Math.min(publicBodyBytes, maxBodyBytes) : maxBodyBytes;
  const gateway = createGateway({
    services: routes,
    maxBodyBytes: maxBodyBytesOf,
    bodyTimeoutMs,
    admit: (context) => pipeline.admit(context),
    describeError,
  });
  const connect = createConnectServer({
    routes,
    addPublic(router) {
      router.service(Health, health.implementation, publicOptions);
      router.service(ServerReflection, reflection, publicOptions);
      router.service(ServerReflectionAlpha, reflection, publicOptions);
    },
    pipeline,
    describeError,
    maxBodyBytes: maxBodyBytesOf,
    bodyTimeoutMs,
    publicStreamMs,
    fallback: gateway,
  });
  const grpc = createGrpcServer({
    services: routes,
    maxBodyBytes: maxBodyBytesOf,
    bodyTimeoutMs,
    receive({ session }, headers) {
      const origin = readOrigin(headers, session?.socket.remoteAddress ?? "", trustedProxies, session);
      return { values: originValues(origin), headers: { ...answerHeaders, [tracecodeHeader]: origin.code } };
    },
    admit: (context) => pipeline.admit(context),
    refuse: (context, error) => pipeline.refuse(context, error),
    onResponse(context, bytes) {
      pipeline.logCall(context.values, {
        httpMethod: "POST",
        status: undefined,
        bytes: bytes ?? 0,
        isComplete: bytes !== undefined,
      });
    },
  });
  const respondToCors = createCors(options.corsOrigins);
  const listener = await listen({
    ...options,
    onStream: grpc,
    onRequest(request, response) {
      const values = receiveRequest(request, response, trustedProxies);
      pipeline.begin(values);
      onResponseEnd(request, response, (sent) => pipeline.logCall(values, sent));
      if (respondToCors(request, response)) return;
      if (respondToProbe(request, response, { isReady: health.check() === Status.SERVING })) return;
      connect(request, response, values);
    },
    badRequestBody(reason) {
      const error = refusal(reason, badRequestTexts[reason]);
      const failure = { values: undefined, context: undefined, bodyField: undefined, status: undefined };
      return JSON.stringify(describeError(error, failure).body);
    },
  });
  return {
    port: listener.port,
    replaceTls: listener.replaceTls,
    announceDrain: () => health.set(Status.NOT_SERVING),
    drain: (limitMs) => {
      health.stop();
      return listener.drain(limitMs);
    },
  };
}

import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Health } from "#gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "#gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.js";
import { createGateway } from "../gateway/gateway.ts";
import type { createErrorBodies } from "./error-body.ts";
import { createHealth } from "./health.ts";
import { type Listener, type ListenerOptions, listen } from "./listener.ts";
import { originValues, type Response, receive } from "./origin.ts";
import type { Pipeline, Route } from "./pipeline.ts";
import { createReflection } from "./reflection.ts";

export interface ServerOptions extends Pick<ListenerOptions, "host" | "port" | "tls" | "onAcceptError"> {
  readonly routes: readonly Route[];
  readonly pipeline: Pipeline;
  readonly describeError: ReturnType<typeof createErrorBodies>;
  readonly maxBodyBytes: number;
  readonly trustedProxies: number;
}

/** Opens all doors on one port: gRPC, gRPC-Web and Connect by path, HTTP/JSON for every other. */
export async function serve(options: ServerOptions): Promise<Listener> {
  const { routes, pipeline, describeError, maxBodyBytes, trustedProxies } = options;
  const services = routes.map(({ service }) => service);
  const health = createHealth(services.map(({ typeName }) => typeName));
  const reflection = createReflection([...services, Health, ServerReflection]);
  const gateway = createGateway({
    services: routes,
    maxBodyBytes,
    contextValues: originValues,
    admit: (context) => pipeline.admit(context),
    describeError,
  });
  const doors = connectNodeAdapter({
    routes(router: ConnectRouter) {
      for (const { service, implementation } of routes) router.service(service, implementation);
      router.service(Health, health.implementation);
      router.service(ServerReflection, reflection);
      router.service(ServerReflectionAlpha, reflection);
    },
    contextValues: (request) => originValues(request),
    readMaxBytes: maxBodyBytes,
    fallback: (request, response) => gateway(request, response as Response),
    jsonOptions: { useProtoFieldName: true, alwaysEmitImplicit: true, ignoreUnknownFields: false },
    grpcWeb: true,
  });
  const listener = await listen({
    ...options,
    onRequest(request, response) {
      receive(request, response, trustedProxies);
      doors(request, response);
    },
    badRequestBody() {
      const error = new ConnectError("this is no HTTP request", Code.InvalidArgument);
      const failure = { request: undefined, context: undefined, bodyField: undefined, status: 400 };
      return JSON.stringify(describeError(error, failure).body);
    },
  });
  return {
    port: listener.port,
    drain: (limitMs) => {
      health.stop();
      return listener.drain(limitMs);
    },
  };
}

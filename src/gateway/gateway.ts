import { type IncomingHttpHeaders, METHODS } from "node:http";
import type { Message, Registry } from "@bufbuild/protobuf";
import type { ContextValues, HandlerContext } from "@connectrpc/connect";
import { createContext } from "../call/context.ts";
import type { ServiceOptions } from "../call/service-options.ts";
import { type Binding, bindingsOf } from "./binding.ts";
import { HttpError } from "./errors.ts";
import type { DescribeError, Exchange, GatewayRequest, GatewayResponse, RpcOutput, SendResponse } from "./exchange.ts";
import { defaultJsonLimits, type JsonLimits } from "./json/scan.ts";
import { createJsonWriters, type JsonWriters } from "./json/write.ts";
import { createReadRequest, isUpload, type ReadRequest } from "./request.ts";
import { createSendResponse } from "./respond.ts";
import { createRouter } from "./router.ts";
import { destroyResponse } from "./send.ts";
import { sendError } from "./send-error.ts";

export interface GatewayOptions extends ServiceOptions {
  readonly limits?: JsonLimits;
  /** The types that a google.protobuf.Any may contain. Without a registry, requests with an Any are refused. */
  readonly registry?: Registry;
  readonly describeError: DescribeError;
}

interface Route extends Binding {
  readonly read: ReadRequest;
  readonly respond: SendResponse;
  readonly call: (request: Message | AsyncIterable<Message>, context: HandlerContext) => Promise<RpcOutput> | RpcOutput;
}

/** @param values the values for the handler's context */
export type Gateway = (request: GatewayRequest, response: GatewayResponse, values: ContextValues) => void;

/**
 * Serves the google.api.http bindings of services as HTTP/JSON over HTTP/1.1 and HTTP/2. All bindings are prepared at once.
 * @throws Error when an annotation is wrong
 */
export function createGateway(options: GatewayOptions): Gateway {
  const writers = createJsonWriters(options.registry);
  const router = createRouter(options.services.flatMap((service) => routesOf(service, options, writers)));

  return (request, response, values) => {
    // A failure while an error is sent cuts this response and affects nothing else.
    handle({ request, response, values }).catch(() => destroyResponse(response));
  };

  async function handle(exchange: Exchange): Promise<void> {
    const { request, response } = exchange;
    const method = request.method ?? "";
    const url = request.url ?? "";
    if (url.includes("#")) {
      return sendError(options, exchange, new HttpError("MALFORMED_HTTP", "the URL must not hold a fragment (#)"));
    }
    const [path, query] = splitOnce(url, "?");
    if (path === "*" && method === "OPTIONS") return respondToOptions(response, router.methods);
    if (!METHODS.includes(method)) {
      return sendError(
        options,
        exchange,
        new HttpError("HTTP_METHOD_UNKNOWN", `the server does not support the HTTP method ${method}`),
      );
    }
    const match = router.match(method, path);
    if (match.kind === "route") return serve(exchange, match.route, match.segments, query);
    if (match.kind === "none") {
      return sendError(options, exchange, new HttpError("NO_SUCH_PATH", `the server has no path ${path}`));
    }
    if (method === "OPTIONS") return respondToOptions(response, match.allow);
    const headers = { allow: match.allow.join(", ") };
    sendError(
      options,
      exchange,
      new HttpError("HTTP_METHOD_NOT_ALLOWED", `the method must be one of ${match.allow.join(", ")}`, headers),
    );
  }

  async function serve(exchange: Exchange, route: Route, segments: readonly string[], query: string): Promise<void> {
    const { request, response, values } = exchange;
    const context = createContext({
      method: route.method,
      requestMethod: request.method ?? "",
      route: route.pattern,
      url: request.url ?? "",
      headers: headersFor(request.method ?? "", request.headers),
      values,
      protocolName: "http",
      timeoutMs: timeoutOf(request),
      response,
    });
    try {
      const admission = options.admit?.(context);
      if (admission !== undefined) await admission;
      const message = await route.read({ request, segments, query, context });
      const output = await route.call(message, context);
      await route.respond(response, output, context);
    } catch (error) {
      sendError(options, { ...exchange, route, context }, error);
    } finally {
      context.end();
    }
  }
}

function respondToOptions(response: GatewayResponse, allow: readonly string[]): void {
  response.writeHead(204, { allow: allow.join(", ") }).end();
}

/** Returns the caller's timeout in milliseconds. The header is that of the Connect protocol. */
function timeoutOf({ headers }: GatewayRequest): number | undefined {
  const text = headers["connect-timeout-ms"];
  return typeof text === "string" && /^\d{1,10}$/.test(text) ? Math.min(Number(text), 0x7fffffff) : undefined;
}

function routesOf(
  { service, implementation }: GatewayOptions["services"][number],
  options: GatewayOptions,
  writers: JsonWriters,
): Route[] {
  const { maxBodyBytes, bodyTimeoutMs, limits = defaultJsonLimits, registry } = options;
  return bindingsOf(service).map((binding) => {
    const { method } = binding;
    const call = (implementation as Record<string, unknown>)[method.localName];
    if (typeof call !== "function")
      throw new Error(`${service.typeName}.${method.name} has a binding but is not implemented`);
    if (method.methodKind === "bidi_streaming" || (method.methodKind === "client_streaming" && !isUpload(binding))) {
      throw new Error(`${service.typeName}.${method.name}: a request stream with a binding must be a file`);
    }
    const read = createReadRequest(binding, {
      maxBytes: maxBodyBytes(method),
      timeoutMs: bodyTimeoutMs,
      limits,
      registry,
    });
    return {
      ...binding,
      read,
      respond: createSendResponse(binding, writers),
      call: call.bind(implementation) as Route["call"],
    };
  });
}

function splitOnce(text: string, separator: string): [before: string, after: string] {
  const index = text.indexOf(separator);
  return index === -1 ? [text, ""] : [text.slice(0, index), text.slice(index + 1)];
}

/** Leaves Range out for methods other than GET, where it has no meaning (RFC 9110, 14.2). */
function headersFor(method: string, headers: IncomingHttpHeaders): IncomingHttpHeaders {
  if (method === "GET" || headers.range === undefined) return headers;
  const { range: _ignored, ...others } = headers;
  return others;
}

import { METHODS } from "node:http";
import type { Message, Registry } from "@bufbuild/protobuf";
import type { ContextValues, HandlerContext } from "@connectrpc/connect";
import { createContext } from "../call/context.ts";
import type { ServiceOptions } from "../call/service-options.ts";
import { type Binding, bindingsOf } from "./binding.ts";
import { headersFor } from "./conditions.ts";
import { HttpError } from "./errors.ts";
import type { DescribeError, Exchange, GatewayRequest, GatewayResponse } from "./exchange.ts";
import { defaultJsonLimits, type JsonLimits } from "./json/scan.ts";
import { sendRefusal } from "./refuse.ts";
import { createReadRequest, isUpload, type ReadRequest } from "./request.ts";
import { createSendAnswer, type SendAnswer } from "./respond.ts";
import { createRouter } from "./router.ts";
import { destroyAnswer } from "./send.ts";

export interface GatewayOptions extends ServiceOptions {
  readonly limits?: JsonLimits;
  /** The types that a google.protobuf.Any may hold. Without it, requests with an Any are refused. */
  readonly registry?: Registry;
  readonly describeError: DescribeError;
}

interface Route extends Binding {
  readonly read: ReadRequest;
  readonly respond: SendAnswer;
  readonly call: (
    request: Message | AsyncIterable<Message>,
    context: HandlerContext,
  ) => Promise<Message> | AsyncIterable<Message>;
}

/** @param values what handlers find in their context's values */
export type Gateway = (request: GatewayRequest, response: GatewayResponse, values: ContextValues) => void;

/**
 * Serves the services' google.api.http bindings as HTTP/JSON, over HTTP/1.1 and HTTP/2.
 * Everything that does not depend on the request is prepared here, and a wrong annotation fails here.
 */
export function createGateway(options: GatewayOptions): Gateway {
  const router = createRouter(options.services.flatMap((service) => routesOf(service, options)));

  return (request, response, values) => {
    // Whatever goes wrong while a failure is told ends this answer, and nothing else.
    handle({ request, response, values }).catch(() => destroyAnswer(response));
  };

  async function handle(exchange: Exchange): Promise<void> {
    const { request, response } = exchange;
    const method = request.method ?? "";
    const url = request.url ?? "";
    if (url.includes("#")) {
      return sendRefusal(options, exchange, new HttpError("MALFORMED_HTTP", "the URL must not hold a fragment (#)"));
    }
    const [path, query] = splitOnce(url, "?");
    if (path === "*" && method === "OPTIONS") return answerOptions(response, router.methods);
    if (!METHODS.includes(method)) {
      return sendRefusal(
        options,
        exchange,
        new HttpError("HTTP_METHOD_UNKNOWN", `the method ${method} is not implemented`),
      );
    }
    const match = router.match(method, path);
    if (match.kind === "route") return serve(exchange, match.route, match.segments, query);
    if (match.kind === "none") {
      return sendRefusal(options, exchange, new HttpError("NO_SUCH_PATH", `no such path: ${path}`));
    }
    if (method === "OPTIONS") return answerOptions(response, match.allow);
    const headers = { allow: match.allow.join(", ") };
    sendRefusal(options, exchange, new HttpError("HTTP_METHOD_NOT_ALLOWED", `${method} is not allowed here`, headers));
  }

  async function serve(exchange: Exchange, route: Route, segments: readonly string[], query: string): Promise<void> {
    const { request, response, values } = exchange;
    const context = createContext({
      method: route.method,
      requestMethod: request.method ?? "",
      url: request.url ?? "",
      headers: headersFor(request.method ?? "", request.headers),
      values,
      protocolName: "http",
      timeoutMs: timeoutOf(request),
      answer: response,
    });
    try {
      const admission = options.admit?.(context);
      if (admission !== undefined) await admission;
      const message = await route.read({ request, segments, query, context });
      const answer = await route.call(message, context);
      await route.respond(response, answer, context);
    } catch (error) {
      sendRefusal(options, { ...exchange, route, context }, error);
    } finally {
      context.end();
    }
  }
}

function answerOptions(response: GatewayResponse, allow: readonly string[]): void {
  response.writeHead(204, { allow: allow.join(", ") }).end();
}

/** The header of Connect's protocol, in milliseconds; honoured here too. */
function timeoutOf({ headers }: GatewayRequest): number | undefined {
  const text = headers["connect-timeout-ms"];
  return typeof text === "string" && /^\d{1,10}$/.test(text) ? Math.min(Number(text), 0x7fffffff) : undefined;
}

function routesOf({ service, implementation }: GatewayOptions["services"][number], options: GatewayOptions): Route[] {
  const { maxBodyBytes, bodyTimeoutMs, limits = defaultJsonLimits, registry } = options;
  return bindingsOf(service).map((binding) => {
    const { method } = binding;
    const call = (implementation as Record<string, unknown>)[method.localName];
    if (typeof call !== "function") throw new Error(`${service.typeName}.${method.name} is bound and not implemented`);
    if (method.methodKind === "bidi_streaming" || (method.methodKind === "client_streaming" && !isUpload(binding))) {
      throw new Error(`${service.typeName}.${method.name}: a stream of requests that is no file cannot be bound`);
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
      respond: createSendAnswer(binding, registry),
      call: call.bind(implementation) as Route["call"],
    };
  });
}

function splitOnce(text: string, separator: string): [before: string, after: string] {
  const index = text.indexOf(separator);
  return index === -1 ? [text, ""] : [text.slice(0, index), text.slice(index + 1)];
}

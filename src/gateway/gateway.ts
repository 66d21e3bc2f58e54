import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { create, type DescService, type JsonValue, type Message } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextValues,
  type HandlerContext,
  type ServiceImpl,
} from "@connectrpc/connect";
import { type Binding, bindingsOf } from "./binding.ts";
import { hasBody, readBody } from "./body.ts";
import { createContext } from "./context.ts";
import { badField, HttpError } from "./errors.ts";
import { readMessage } from "./json/read.ts";
import type { JsonLimits } from "./json/scan.ts";
import { type Bind, createBind } from "./parameters.ts";
import { createRespond, finish, type Respond } from "./respond.ts";
import { createRouter } from "./router.ts";

export type GatewayRequest = IncomingMessage | Http2ServerRequest;
export type GatewayResponse = ServerResponse | Http2ServerResponse;

export interface GatewayOptions {
  /** Services and their implementations, as Connect's router takes them. */
  readonly services: readonly {
    readonly service: DescService;
    readonly implementation: Partial<ServiceImpl<DescService>>;
  }[];
  /** The largest body of a request. */
  readonly maxBodyBytes: number;
  readonly limits?: JsonLimits;
  /** What handlers find in their context's values. */
  readonly contextValues?: (request: GatewayRequest) => ContextValues;
  /** Refuses a caller before the request is read. */
  readonly admit?: (context: HandlerContext) => Promise<void>;
  /** The status and the body of an error, the gateway's own ones included. */
  readonly describeError: (error: ConnectError, failure: GatewayFailure) => ErrorAnswer;
}

/** Where an error comes from. */
export interface GatewayFailure {
  readonly request: GatewayRequest;
  /** The call; undefined when no route matched. */
  readonly context: HandlerContext | undefined;
  /** The field that the HTTP body is: violations below it begin with its name, which HTTP callers never wrote. */
  readonly bodyField: string | undefined;
  /** Where HTTP has a status of its own: 404, 405, 413, 415. */
  readonly status: number | undefined;
}

export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: JsonValue;
}

interface Route extends Binding {
  readonly bind: Bind;
  readonly respond: Respond;
  readonly call: (request: Message, context: HandlerContext) => Promise<Message> | AsyncIterable<Message>;
}

const defaultLimits: JsonLimits = { depth: 32, items: 100_000 };

/**
 * Serves the services' google.api.http bindings as HTTP/JSON, over HTTP/1.1 and HTTP/2.
 * Everything that does not depend on the request is prepared here, and a wrong annotation fails here.
 */
export function createGateway(options: GatewayOptions): (request: GatewayRequest, response: GatewayResponse) => void {
  const { limits = defaultLimits, maxBodyBytes, contextValues = createContextValues } = options;
  const router = createRouter(options.services.flatMap((service) => routesOf(service)));

  return (request, response) => {
    const [path = "", query = ""] = splitOnce(request.url ?? "", "?");
    const match = router.match(request.method ?? "", path);
    if (match.kind === "none") return refuse(new HttpError(404, Code.NotFound, `no such path: ${path}`));
    if (match.kind === "method") return answerMethod(match.allow);
    const { route, segments } = match;
    // Whatever goes wrong while a failure is told ends this answer, and nothing else.
    serve(route, segments, query).catch(() => response.destroy());

    async function serve(route: Route, segments: readonly string[], query: string): Promise<void> {
      const context = createContext(route.method, request, response, contextValues(request));
      try {
        await options.admit?.(context);
        const message = await readRequest(route, segments, query);
        const answer = await route.call(message, context);
        await route.respond(response, answer, context);
      } catch (error) {
        // The caller has read the start of an answer: only a cut connection tells that it has no end.
        if (response.headersSent) response.destroy();
        else refuse(error, route, context);
      } finally {
        context.end();
      }
    }

    async function readRequest(route: Route, segments: readonly string[], query: string): Promise<Message> {
      let message = create(route.method.input);
      if (route.body === undefined) {
        if (hasBody(request)) throw badField("", "this operation takes no body");
      } else {
        const text = await readBody(request, maxBodyBytes);
        if (route.body === "*") message = readMessage(route.method.input, text, limits);
        else if (route.body.fieldKind === "message") {
          const value = readMessage(route.body.message, text, limits);
          reflect(route.method.input, message).set(route.body, reflect(route.body.message, value));
        }
      }
      route.bind(message, segments, query);
      return message;
    }

    function answerMethod(allow: readonly string[]): void {
      const headers = { allow: allow.join(", ") };
      if (request.method === "OPTIONS") {
        response.writeHead(204, headers).end();
        return;
      }
      refuse(new HttpError(405, Code.Unimplemented, `${request.method} is not allowed here`, headers));
    }

    function refuse(error: unknown, route?: Route, context?: HandlerContext): void {
      const http = error instanceof HttpError ? error : undefined;
      const known = http === undefined ? ConnectError.from(error) : new ConnectError(http.message, http.code);
      const bodyField = typeof route?.body === "object" ? route.body.name : undefined;
      const failure = { request, context, bodyField, status: http?.status };
      const answer = options.describeError(known, failure);
      const headers = new Headers(context?.responseHeader);
      for (const [name, value] of Object.entries({ ...answer.headers, ...http?.headers })) headers.set(name, value);
      // What is left of the body is not read: the connection cannot be used again.
      if (request.httpVersionMajor === 1 && hasBody(request) && !request.complete) headers.set("connection", "close");
      finish(response, answer.status, { responseHeader: headers }, JSON.stringify(answer.body));
    }
  };
}

function routesOf({ service, implementation }: GatewayOptions["services"][number]): Route[] {
  return bindingsOf(service).map((binding) => {
    const { method, body } = binding;
    const call = (implementation as Record<string, unknown>)[method.localName];
    if (typeof call !== "function") throw new Error(`${service.typeName}.${method.name} is bound and not implemented`);
    if (method.methodKind !== "unary" && method.methodKind !== "server_streaming") {
      throw new Error(`${service.typeName}.${method.name}: a stream of requests cannot be bound`);
    }
    if (typeof body === "object" && body.fieldKind !== "message") {
      throw new Error(`${service.typeName}.${method.name}: the body field ${body.name} is no message`);
    }
    return { ...binding, bind: createBind(binding), respond: createRespond(binding), call: call as Route["call"] };
  });
}

function splitOnce(text: string, separator: string): string[] {
  const index = text.indexOf(separator);
  return index === -1 ? [text] : [text.slice(0, index), text.slice(index + 1)];
}

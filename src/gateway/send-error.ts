import { constants } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import type { LightContext } from "../call/context.ts";
import { callError } from "../call/errors.ts";
import type { Binding } from "./binding.ts";
import { hasBody } from "./body.ts";
import { HttpError, toCallError } from "./errors.ts";
import type { DescribeError, Exchange, GatewayRequest, GatewayResponse } from "./exchange.ts";
import { destroyResponse, type Head, isResponseOpen, jsonType, sendBody, startBody } from "./send.ts";

/** How long the rest of a long body is dropped, so that its sender gets to read the response. */
const lingerMs = 1000;
/** The longest body that is read to its end to keep the connection. */
const lingerBytes = 8_388_608;

/** A request that failed. Route and context are undefined when no route matched. */
interface FailedExchange extends Exchange {
  readonly route?: Pick<Binding, "body">;
  readonly context?: LightContext;
}

/** Sends an error response, or cuts the response that has begun. */
export function sendError(options: SendErrorOptions, exchange: FailedExchange, error: unknown): void {
  const { request, response, values, route, context } = exchange;
  if (!isResponseOpen(response)) return;
  // The caller has the start of a response: only a cut connection shows that it is incomplete.
  if (response.headersSent) return destroyResponse(response);

  const cause = error instanceof ConnectError ? error.cause : error;
  const http = cause instanceof HttpError ? cause : undefined;
  const bodyField = typeof route?.body === "object" ? route.body.name : undefined;
  const known = toConnectError(error, context);
  const described = options.describeError(known, { values, context, bodyField, status: http?.status });
  // Headers that describe the handler's content do not apply to the error.
  const kept = [...(context?.givenHeader ?? [])].filter(([name]) => !/^(content-|etag$)/.test(name));
  const headers = new Headers(kept);
  for (const [name, value] of Object.entries({ ...described.headers, ...http?.headers })) headers.set(name, value);
  const head = { status: described.status, headers, contentType: jsonType };
  sendBeforeRequestEnds(request, response, { head, body: JSON.stringify(described.body) });
}

interface SendErrorOptions {
  readonly describeError: DescribeError;
}

function toConnectError(error: unknown, context: LightContext | undefined): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof HttpError) return toCallError(error);
  // An interrupted operation may fail with an error of its own.
  if (context?.signal.aborted === true) return ConnectError.from(context.signal.reason, Code.Canceled);
  // The text of an unexpected error is internal.
  return callError("INTERNAL", Code.Internal, "internal error", error);
}

interface ErrorContent {
  readonly head: Head & { readonly headers: Headers };
  readonly body: string;
}

/** Sends a response to a request whose body may not have ended. */
function sendBeforeRequestEnds(request: GatewayRequest, response: GatewayResponse, { head, body }: ErrorContent): void {
  if ("stream" in response) {
    const { stream } = response;
    sendBody(response, head, body);
    // Asks the caller to stop sending, once the response is complete (RFC 9113, 8.1).
    if (!request.complete) stream.close(constants.NGHTTP2_NO_ERROR);
  } else if (!isLong(request)) {
    sendBody(response, head, body);
    request.resume();
  } else {
    // Closing at once would reset the connection of a caller that is still sending and has not read the response.
    head.headers.set("content-length", String(Buffer.byteLength(body)));
    response.setHeader("connection", "close");
    startBody(response, head);
    response.write(body);
    const timer = setTimeout(end, lingerMs);
    request.once("end", end).once("close", end).resume();

    function end(): void {
      clearTimeout(timer);
      response.end();
    }
  }
}

function isLong(request: GatewayRequest): boolean {
  if (request.complete || !hasBody(request)) return false;
  const length = request.headers["content-length"];
  return length === undefined || Number(length) > lingerBytes;
}

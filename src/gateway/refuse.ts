import { constants } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import type { LightContext } from "../call/context.ts";
import { callError } from "../call/errors.ts";
import type { Binding } from "./binding.ts";
import { hasBody } from "./body.ts";
import { HttpError, toCallError } from "./errors.ts";
import type { DescribeError, Exchange, GatewayRequest, GatewayResponse } from "./exchange.ts";
import { destroyAnswer, type Head, isAnswerOpen, jsonType, sendBody, startBody } from "./send.ts";

/** How long the rest of a body that nobody wants is thrown away, so that its sender comes to read the answer. */
const lingerMs = 1000;
/** The longest body that is read to its end for the sake of the connection. */
const lingerBytes = 8_388_608;

/** A request that is answered with an error; route and context are undefined when no route matched. */
interface Refused extends Exchange {
  readonly route?: Pick<Binding, "body">;
  readonly context?: LightContext;
}

/** Answers a request with an error, or cuts the answer that has begun. */
export function sendRefusal(options: RefuseOptions, refused: Refused, error: unknown): void {
  const { request, response, values, route, context } = refused;
  if (!isAnswerOpen(response)) return;
  // The caller has read the start of an answer: only a cut connection tells that it has no end.
  if (response.headersSent) return destroyAnswer(response);

  const cause = error instanceof ConnectError ? error.cause : error;
  const http = cause instanceof HttpError ? cause : undefined;
  const bodyField = typeof route?.body === "object" ? route.body.name : undefined;
  const known = toConnectError(error, context);
  const answer = options.describeError(known, { values, context, bodyField, status: http?.status });
  // What the handler said of the content of its own answer is not true of this one.
  const kept = [...(context?.givenHeader ?? [])].filter(([name]) => !/^(content-|etag$)/.test(name));
  const headers = new Headers(kept);
  for (const [name, value] of Object.entries({ ...answer.headers, ...http?.headers })) headers.set(name, value);
  const head = { status: answer.status, headers, contentType: jsonType };
  sendBeforeEnd(request, response, { head, body: JSON.stringify(answer.body) });
}

interface RefuseOptions {
  readonly describeError: DescribeError;
}

function toConnectError(error: unknown, context: LightContext | undefined): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof HttpError) return toCallError(error);
  // What was interrupted may say so in its own way.
  if (context?.signal.aborted === true) return ConnectError.from(context.signal.reason, Code.Canceled);
  // What it says is not for the caller.
  return callError("INTERNAL", Code.Internal, "internal error", error);
}

interface Refusal {
  readonly head: Head & { readonly headers: Headers };
  readonly body: string;
}

/** Sends an answer to a request whose body may not be read to its end. */
function sendBeforeEnd(request: GatewayRequest, response: GatewayResponse, { head, body }: Refusal): void {
  if ("stream" in response) {
    const { stream } = response;
    sendBody(response, head, body);
    // Once the answer is out, the caller is asked to send no more (RFC 9113, 8.1).
    if (!request.complete) stream.close(constants.NGHTTP2_NO_ERROR);
  } else if (!isLong(request)) {
    sendBody(response, head, body);
    request.resume();
  } else {
    // Closed at once, the connection would be reset under the caller, who sends and has not read the answer.
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

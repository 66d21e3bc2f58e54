import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { JsonValue } from "@bufbuild/protobuf";
import type { ConnectError, ContextValues, HandlerContext } from "@connectrpc/connect";

export type GatewayRequest = IncomingMessage | Http2ServerRequest;
export type GatewayResponse = ServerResponse | Http2ServerResponse;

/** A request, its response, and the values that handlers find in their context. */
export interface Exchange {
  readonly request: GatewayRequest;
  readonly response: GatewayResponse;
  readonly values: ContextValues;
}

/** The request that an error answers. */
export interface GatewayFailure {
  /** The values that the gateway received with the request. */
  readonly values: ContextValues;
  /** The call; undefined when no route matched. */
  readonly context: HandlerContext | undefined;
  /** The field that the HTTP body is: violations below it begin with its name, which HTTP callers never wrote. */
  readonly bodyField: string | undefined;
  /** The status of an error of HTTP itself: 404, 405, 413, 415. Undefined where the error's code decides. */
  readonly status: number | undefined;
}

export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: JsonValue;
}

/** Returns the status and the body of an error, the gateway's own errors included. */
export type DescribeError = (error: ConnectError, failure: GatewayFailure) => ErrorAnswer;

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { JsonValue } from "@bufbuild/protobuf";
import type { ConnectError, ContextValues, HandlerContext } from "@connectrpc/connect";
import type { LightContext } from "../call/context.ts";
import type { Fields } from "./json/write.ts";

export type GatewayRequest = IncomingMessage | Http2ServerRequest;
export type GatewayResponse = ServerResponse | Http2ServerResponse;

/** A request, its response, and the values for the handler's context. */
export interface Exchange {
  readonly request: GatewayRequest;
  readonly response: GatewayResponse;
  readonly values: ContextValues;
}

/** The output of an RPC: a message, or its fields. The gateway writes both, and creates no message. */
export type RpcOutput = Fields | AsyncIterable<Fields>;

/** Writes the output of an RPC as an HTTP response. */
export type SendResponse = (response: GatewayResponse, output: RpcOutput, context: LightContext) => Promise<void>;

/** The request that failed. */
export interface GatewayFailure {
  /** The context values of the request. */
  readonly values: ContextValues;
  /** The call; undefined when no route matched. */
  readonly context: HandlerContext | undefined;
  /** The field that the HTTP body holds. Violations begin with its name, which HTTP callers did not send. */
  readonly bodyField: string | undefined;
  /** The status of an error of HTTP itself: 404, 405, 413, 415; undefined: the code of the error decides. */
  readonly status: number | undefined;
}

export interface ErrorResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: JsonValue;
}

/** Returns the status and the body for an error of a handler or of the gateway itself. */
export type DescribeError = (error: ConnectError, failure: GatewayFailure) => ErrorResponse;

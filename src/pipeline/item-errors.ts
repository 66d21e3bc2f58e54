import { ConnectError, type HandlerContext } from "@connectrpc/connect";
import type { Logger } from "pino";
import { toDatabaseError } from "../postgres/errors.ts";
import { faultOf, reasonFieldsOf } from "./call-log.ts";
import { originKey } from "./client-origin.ts";
import { type RequestState, type RequestStateOptions, withTracedata } from "./request-state.ts";
import { operationOf } from "./tracedata.ts";

export interface ItemErrorOptions extends RequestStateOptions {
  readonly logger: Logger;
}

/**
 * Converts the error of one item of a batch into the public one. Items may share an error. The call itself succeeds, so a
 * fault has a line of its own, one for all items that share it.
 */
export function toItemError(
  options: ItemErrorOptions,
  context: HandlerContext,
  requestState: RequestState,
  error: unknown,
): ConnectError {
  const found = toDatabaseError(error);
  const own = new ConnectError(found.rawMessage, found.code, found.metadata, undefined, found.cause);
  own.details.push(...found.details);
  const known = withTracedata(options, context, requestState, own);
  const fault = faultOf(known);
  if (fault === undefined || requestState.loggedFaults?.has(error) === true) return known;
  requestState.loggedFaults ??= new Set();
  requestState.loggedFaults.add(error);
  const tracecode = context.values.get(originKey).code;
  const fields = { tracecode, operation: operationOf(context.method), ...reasonFieldsOf(known), err: fault };
  options.logger.error(fields, "item of a batch failed");
  return known;
}

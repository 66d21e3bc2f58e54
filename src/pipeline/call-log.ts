import { Code, type ConnectError, type ContextValues } from "@connectrpc/connect";
import type { Logger } from "pino";
import { Health } from "#gen/grpc/health/v1/health_pb.js";
import { SystemService } from "#gen/tollgate/v1/system_pb.js";
import { callerGone, callKey, type LightContext } from "../call/context.ts";
import { findReason } from "../call/errors.ts";
import { originKey } from "./client-origin.ts";
import { type RequestState, type RequestStateOptions, requestStateOf } from "./request-state.ts";
import { clientOf, operationOf } from "./tracedata.ts";

/** The response of a request. */
export interface SentResponse {
  readonly httpMethod: string;
  /** The HTTP status; undefined where gRPC has a code instead. */
  readonly status: number | undefined;
  /** The size of the body as far as it was sent. */
  readonly bytes: number;
  /** False when the caller left before the end. */
  readonly isComplete: boolean;
}

export type LogCall = (values: ContextValues, sent: SentResponse) => void;

export interface CallLogOptions extends Pick<RequestStateOptions, "now"> {
  readonly logger: Logger;
}

/** The calls of load balancers and monitors. */
const probes = new Set<unknown>([...Health.methods, SystemService.method.check]);

/**
 * Creates the function that writes one line for each request: faults with their cause, at error; UNAVAILABLE at warn;
 * probes, and requests that no operation serves, at debug; all others at info.
 */
export function createCallLog(options: CallLogOptions): LogCall {
  const { logger } = options;

  return (values, sent) => {
    const requestState = requestStateOf({ values }, options);
    // A caller that left before its response has no error yet.
    const error = requestState.error ?? (sent.isComplete ? undefined : callerGone());
    const fault = error && faultOf(error);
    const call = values.get(callKey);
    if (call !== undefined) endSpan(call, requestState, error, fault);
    // Comes first: nothing else may cost a call whose line is not written.
    if (fault === undefined && !logger.isLevelEnabled("info")) return;
    const { code, address } = values.get(originKey);
    const fields = {
      tracecode: code,
      address,
      method: sent.httpMethod,
      route: call?.route,
      client: clientOf(requestState.caller),
      operation: call && operationOf(call.method),
      protocol: call?.protocolName,
      outcome: error === undefined ? "ok" : (Code[error.code] ?? ""),
      status: isGrpc(call) ? undefined : sent.status,
      bytes: sent.bytes,
      durationMs: Math.round(performance.now() - requestState.measuredFromMs),
      loginUser: requestState.loginUser,
      ...requestState.span?.ids,
    };
    if (error === undefined) {
      if (call === undefined || probes.has(call.method)) logger.debug(fields, "call");
      else logger.info(fields, "call");
    } else if (fault === undefined) {
      logger.info({ ...fields, ...reasonFieldsOf(error) }, call === undefined ? "request refused" : "call refused");
    } else if (error.code === Code.Unavailable) {
      // Without the stack: the lost server has lines of its own, and every call fails meanwhile.
      logger.warn({ ...fields, ...reasonFieldsOf(error), cause: messageOf(fault) }, "call failed");
    } else {
      logger.error({ ...fields, err: fault }, "call failed");
    }
  };
}

function endSpan(
  { method, protocolName, values }: LightContext,
  { span }: RequestState,
  error: ConnectError | undefined,
  fault: unknown,
): void {
  span?.end(
    {
      "rpc.system.name": protocolName,
      "rpc.method": `${method.parent.typeName}/${method.name}`,
      "rpc.response.status_code": error === undefined ? "OK" : (Code[error.code] ?? ""),
      "tollgate.tracecode": values.get(originKey).code,
      ...(error !== undefined && { "tollgate.reason": findReason(error) ?? "" }),
    },
    fault === undefined ? undefined : error,
  );
}

/** Returns the fields of a refusal: the machine-readable reason and its text. */
export function reasonFieldsOf(error: ConnectError): { readonly reason: string | undefined; readonly message: string } {
  return { reason: findReason(error), message: error.rawMessage };
}

/** Returns the cause of an error that is a fault of the server. UNAVAILABLE without a cause is one of our limits. */
export function faultOf(error: ConnectError): unknown {
  switch (error.code) {
    case Code.Unavailable:
      return error.cause;
    case Code.Internal:
    case Code.Unknown:
    case Code.DataLoss:
      return error.cause ?? error;
    default:
      return undefined;
  }
}

function isGrpc(call: LightContext | undefined): boolean {
  return call?.protocolName.startsWith("grpc") === true;
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

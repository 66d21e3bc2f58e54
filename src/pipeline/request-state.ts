import { Code, ConnectError, createContextKey, type HandlerContext } from "@connectrpc/connect";
import type { Logger } from "pino";
import { type Tracedata, TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import type { Authenticator } from "../accounts/auth/service.ts";
import { interruptionOf } from "../call/context.ts";
import { findReason } from "../call/errors.ts";
import { toDatabaseError } from "../postgres/errors.ts";
import { complete, invalid, unauthenticated } from "../shared/errors.ts";
import type { Principal } from "../shared/principal.ts";
import { authorize, isPublic } from "./authorization.ts";
import { originKey } from "./client-origin.ts";
import { clientOf, createTracedata, operationOf, tracecodeHeader } from "./tracedata.ts";

export interface RequestStateOptions {
  readonly logger: Logger;
  /** The name of this server in tracedata. */
  readonly serverName: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly authenticator: Pick<Authenticator, "peek" | "authenticate">;
  /** Told of the connection of each authenticated call. */
  readonly onKnown?: (connection: object | undefined) => void;
}

/** What is known of a request on its way, whatever door it came by and however many contexts it has. */
export interface RequestState {
  readonly startedMs: number;
  isAdmitted: boolean;
  /** Also who may not call: a refusal names them. */
  caller: Principal | undefined;
}

const visitKey = createContextKey<RequestState | undefined>(undefined, { description: "a request on its way" });

export function requestStateOf({ values }: HandlerContext, { now }: RequestStateOptions): RequestState {
  const known = values.get(visitKey);
  if (known !== undefined) return known;
  const requestState: RequestState = { startedMs: now(), isAdmitted: false, caller: undefined };
  values.set(visitKey, requestState);
  return requestState;
}

/** Refuses who may not call. Nothing to wait for: undefined. */
export function admitCaller(
  options: RequestStateOptions,
  { method, values }: HandlerContext,
  requestState: RequestState,
): Promise<void> | undefined {
  if (requestState.isAdmitted) return undefined;
  const { codeRefused, authorization, connection } = values.get(originKey);
  if (codeRefused) throw invalid({ field: tracecodeHeader, message: "the header must be a UUID" });
  if (isPublic(method)) {
    requestState.isAdmitted = true;
    return undefined;
  }
  const token = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
  if (token === undefined) throw unauthenticated("TOKEN_MISSING", "a token is needed: Authorization: Bearer <token>");
  const known = options.authenticator.peek(token);
  if (known === undefined) return options.authenticator.authenticate(token).then(enter);
  enter(known);
  return undefined;

  function enter(principal: Principal | undefined): void {
    if (principal === undefined) throw unauthenticated("TOKEN_INVALID", "the token is not valid");
    requestState.caller = principal;
    options.onKnown?.(connection);
    authorize(method, principal);
    requestState.isAdmitted = true;
  }
}

export function tracedataOf(
  { serverName }: RequestStateOptions,
  { method, values }: HandlerContext,
  requestState: RequestState,
): Tracedata {
  const { code } = values.get(originKey);
  return createTracedata({
    code,
    server: serverName,
    method,
    principal: requestState.caller,
    timeMs: requestState.startedMs,
  });
}

/** The error as the caller may read it. */
export function toPublicError(
  options: RequestStateOptions,
  context: HandlerContext,
  requestState: RequestState,
  error: unknown,
): ConnectError {
  // The caller's own going away is no fault of what it interrupted.
  const interrupted = interruptionOf(context);
  const known = complete(
    interrupted === undefined ? toDatabaseError(error) : ConnectError.from(interrupted.reason, Code.Canceled),
  );
  known.details.push({ desc: TracedataSchema, value: tracedataOf(options, context, requestState) });
  logCall(options, context, requestState, known);
  return known;
}

export function logCall(
  { logger, now }: RequestStateOptions,
  context: HandlerContext,
  requestState: RequestState,
  error?: ConnectError,
): void {
  if (error === undefined && !logger.isLevelEnabled("info")) return;
  const fields = {
    tracecode: context.values.get(originKey).code,
    client: clientOf(requestState.caller),
    operation: operationOf(context.method),
    protocol: context.protocolName,
    outcome: error === undefined ? "ok" : (Code[error.code] ?? ""),
    durationMs: now() - requestState.startedMs,
  };
  if (error === undefined) logger.info(fields, "call");
  else if (isFault(error)) logger.error({ ...fields, err: error.cause ?? error }, "call failed");
  else logger.info({ ...fields, reason: findReason(error), message: error.rawMessage }, "call refused");
}

/** An UNAVAILABLE without a cause is a refusal by a limit of ours: a flood of them must not cost a stack trace each. */
function isFault({ code, cause }: ConnectError): boolean {
  if (code === Code.Unavailable) return cause !== undefined;
  return code === Code.Internal || code === Code.Unknown || code === Code.DataLoss;
}

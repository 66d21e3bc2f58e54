import { Code, ConnectError, createContextKey, type HandlerContext } from "@connectrpc/connect";
import { type Tracedata, TracedataSchema } from "#gen/tollgate/v1/tracedata_pb.js";
import type { Authenticator } from "../accounts/auth/service.ts";
import { interruptionOf } from "../call/context.ts";
import { toDatabaseError } from "../postgres/errors.ts";
import { complete, invalid, unauthenticated } from "../shared/errors.ts";
import type { Principal } from "../shared/principal.ts";
import { currentTracer, type Span } from "../shared/tracing.ts";
import { authorize, isPublic } from "./authorization.ts";
import type { CallCounts } from "./call-counts.ts";
import { originKey } from "./client-origin.ts";
import { createTracedata, tracecodeHeader } from "./tracedata.ts";

export interface RequestStateOptions {
  /** The name of this server in tracedata. */
  readonly serverName: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly authenticator: Pick<Authenticator, "peek" | "authenticate">;
  /** Called with the connection of each authenticated call. */
  readonly onAuthenticated?: (connection: object | undefined) => void;
  /** Counts every call. Undefined when nothing reads the counts. */
  readonly calls?: CallCounts | undefined;
}

/** The state of a request in progress. A request has one state, even if its transport creates several contexts. */
export interface RequestState {
  /** Milliseconds since the epoch. */
  readonly startedMs: number;
  /** The start by performance.now(), which no correction of the clock moves: for durations. */
  readonly measuredFromMs: number;
  isAdmitted: boolean;
  /** Set even if authorization fails, so that errors can name the caller. */
  caller: Principal | undefined;
  /** The public error that the caller gets. */
  error: ConnectError | undefined;
  /** The existing user whose login failed. */
  loginUser: string | undefined;
  /** The span of the call. Undefined while tracing is off. */
  span: Span | undefined;
  /** Faults of items of a batch. A fault of many items is logged once. */
  loggedFaults?: Set<unknown>;
}

const stateKey = createContextKey<RequestState | undefined>(undefined, { description: "state of a request" });

/** Returns the state of a request and creates it on first use. */
export function requestStateOf(
  { values }: Pick<HandlerContext, "values">,
  { now }: Pick<RequestStateOptions, "now">,
): RequestState {
  const known = values.get(stateKey);
  if (known !== undefined) return known;
  const requestState: RequestState = {
    startedMs: now(),
    measuredFromMs: performance.now(),
    isAdmitted: false,
    caller: undefined,
    error: undefined,
    loginUser: undefined,
    span: undefined,
  };
  values.set(stateKey, requestState);
  return requestState;
}

/** Returns the state of a request that has become a call, and starts its span. */
export function callStateOf(context: HandlerContext, options: Pick<RequestStateOptions, "now">): RequestState {
  const requestState = requestStateOf(context, options);
  const { method, values } = context;
  requestState.span ??= currentTracer()?.startCall(
    `${method.parent.typeName}/${method.name}`,
    values.get(originKey).traceHeaders,
  );
  return requestState;
}

/**
 * Authenticates and authorizes the caller. Returns undefined when no I/O was needed.
 * @throws TOKEN_MISSING, TOKEN_INVALID or ROLE_REQUIRED; INVALID_REQUEST when the tracecode is not a UUID
 */
export function admitCaller(
  options: RequestStateOptions,
  { method, values }: HandlerContext,
  requestState: RequestState,
): Promise<void> | undefined {
  if (requestState.isAdmitted) return undefined;
  const { codeRefused, authorization, connection } = values.get(originKey);
  if (codeRefused) throw invalid({ field: tracecodeHeader, message: "must be a UUID" });
  if (isPublic(method)) {
    requestState.isAdmitted = true;
    return undefined;
  }
  const token = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
  if (token === undefined)
    throw unauthenticated("TOKEN_MISSING", "the request has no token: send the header Authorization: Bearer <token>");
  const known = options.authenticator.peek(token);
  if (known === undefined) return options.authenticator.authenticate(token).then(admit);
  admit(known);
  return undefined;

  function admit(principal: Principal | undefined): void {
    if (principal === undefined) throw unauthenticated("TOKEN_INVALID", "the token is not valid");
    requestState.caller = principal;
    options.onAuthenticated?.(connection);
    authorize(method, principal);
    requestState.isAdmitted = true;
  }
}

/** Returns the tracedata of a request. */
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

/** Converts an error into the public one: it adds reason and tracedata, hides internals, and keeps it for the log line. */
export function toPublicError(
  options: RequestStateOptions,
  context: HandlerContext,
  requestState: RequestState,
  error: unknown,
): ConnectError {
  // When the caller left, an error of the interrupted work is not a fault.
  const interrupted = interruptionOf(context);
  const known = withTracedata(
    options,
    context,
    requestState,
    interrupted === undefined ? toDatabaseError(error) : ConnectError.from(interrupted.reason, Code.Canceled),
  );
  requestState.error = known;
  countCall(options, context, requestState, known);
  return known;
}

/** Counts a call that has ended. */
export function countCall(
  { calls }: Pick<RequestStateOptions, "calls">,
  { method, protocolName }: HandlerContext,
  { measuredFromMs }: RequestState,
  error?: ConnectError,
): void {
  calls?.count(method, protocolName, error?.code ?? 0, measuredFromMs);
}

/** Completes an error, and adds the tracedata of its call. */
export function withTracedata(
  options: RequestStateOptions,
  context: HandlerContext,
  requestState: RequestState,
  error: ConnectError,
): ConnectError {
  const known = complete(error);
  known.details.push({ desc: TracedataSchema, value: tracedataOf(options, context, requestState) });
  return known;
}
